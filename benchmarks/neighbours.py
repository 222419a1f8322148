"""How much the gradient of an image depends on the images beside it, where a batch shares an adaptive step.

    python -m benchmarks.neighbours [--images 64]

Needs torchdiffeq. A small Neural ODE is trained on digits in fixed steps. Then the signs of the gradient of
the cross-entropy, summed over all images, are compared with those of a solve in 50 steps of rk4: of `odeint`
and `odeint_adjoint` of torchdiffeq with dopri5 on the whole batch and on one image at a time, and of what an
attack of this program sees of the same module. The last line is our own dopri5 on a shipped checkpoint.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import robustbench_sde as rb
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws, Stream

TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-5)
_FINE = {"method": "rk4", "options": {"step_size": 1 / 50}}


class Field(nn.Module):
    """The drift of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))

    def forward(self, time: Tensor, state: Tensor) -> Tensor:
        """Return the derivative of states (B, 64)."""
        return self.net(state)


class Network(nn.Module):
    """A Neural ODE on images of 1x32x32, whose solver is given."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 64))
        self.field, self.head = Field(), nn.Linear(64, 10)
        self.solve: Callable[..., Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) of images (B, 1, 32, 32)."""
        assert self.solve is not None
        return self.head(self.solve(self.field, self.stem(images), torch.tensor([0.0, 1.0]))[-1])


def trained(steps: int = 300) -> Network:
    """Train on all digits at once, in eight steps of rk4."""
    from torchdiffeq import odeint

    data = rb.load_dataset("digits", split="train")
    torch.manual_seed(0)
    net = Network()
    net.solve = partial(odeint, method="rk4", options={"step_size": 1 / 8})
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(data.images / 255), data.labels).backward()
        optimizer.step()
    return net.eval()


def gradient(logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, size: int) -> Tensor:
    """Return the gradient of the summed cross-entropy, `size` images at a time."""
    parts = []
    for piece, own in zip(images.split(size), labels.split(size), strict=True):
        x = piece.clone().requires_grad_()
        loss = nn.functional.cross_entropy(logits(x), own, reduction="sum")
        parts.append(torch.autograd.grad(loss, x)[0])
    return torch.cat(parts)


def differing(found: Tensor, fine: Tensor) -> float:
    """Return the share of signs that differ, where both gradients are not 0."""
    both = (found != 0) & (fine != 0)
    return float((found.sign() != fine.sign())[both].double().mean())


def seen_by_attacks(model: RandomClassifier) -> Callable[[Tensor], Tensor]:
    """Return logits (B, classes) as an attack gets them."""
    return lambda x: model.logits(x, range(len(x)), Draws(0, Stream.ATTACK, range(1)))[0]


def main() -> None:
    """Print the tables."""
    from torchdiffeq import odeint, odeint_adjoint

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    count = parser.parse_args().images
    data = rb.load_dataset("digits", images=count)
    images, labels = data.images / 255, data.labels
    net = trained()
    net.solve = partial(odeint, **_FINE)
    fine = gradient(net, images, labels, count)
    print("Share of the signs that differ from 50 steps of rk4:\n")
    print("| tolerance | odeint | odeint, one image a pass | odeint_adjoint | what attacks see |")
    print("|---|---|---|---|---|")
    for tolerance in TOLERANCES:
        how = {"method": "dopri5", "rtol": tolerance, "atol": tolerance}
        row = []
        for solve, size in ((odeint, count), (odeint, 1), (odeint_adjoint, count)):
            net.solve = partial(solve, **how)
            row.append(differing(gradient(net, images, labels, size), fine))
        net.solve = partial(odeint, **how)
        model = rb.as_classifier(net, data)
        row.append(differing(gradient(seen_by_attacks(model), images, labels, count), fine))
        print(f"| {tolerance:g} | {' | '.join(f'{share:.1%}' for share in row)} |", flush=True)
    images, labels, count = images[:16], labels[:16], min(count, 16)
    ours = rb.load_checkpoint("digits-ode").with_solver(solver="dopri5")
    logits = seen_by_attacks(ours)
    x = images.clone().requires_grad_()
    others = torch.autograd.grad(logits(x)[0].sum(), x)[0].abs().amax((1, 2, 3))
    batch, alone = (gradient(logits, images, labels, size) for size in (count, 1))
    leak = float(others[1:].max() / others[0])
    print(
        f"\nOur dopri5 on digits-ode: {differing(batch, alone):.1%} of the signs differ between a batch and "
        f"one image a pass; another image has at most {leak:.2g} of the derivative that the image itself has"
    )


if __name__ == "__main__":
    main()
