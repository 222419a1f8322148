"""A Neural ODE written with torchdiffeq: deterministic, so that one pass decides.

    python examples/torchdiffeq_model.py            # about a minute on one core
    python examples/torchdiffeq_model.py --small    # seconds

`rk4` has fixed steps. An adaptive solver (`dopri5`) chooses its steps for the whole batch, so that the
class of an image depends on the images beside it, and it may hide gradients from an attack; sde-bench
measures and says the former.
"""

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchdiffeq import odeint

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset, to_float


class Drift(nn.Module):
    """f(t, h) on 16 x 8 x 8 states."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(17, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        time = t.expand(len(h), 1, *h.shape[2:])
        return self.second(F.relu(self.first(torch.cat((h, time), 1))))


class ODENet(nn.Module):
    """Images (B, 1, 32, 32) in [0, 1] to logits (B, 10)."""

    def __init__(self, method: str = "rk4", steps: int = 4):
        super().__init__()
        self.method, self.steps = method, steps
        self.stem, self.drift, self.head = nn.Conv2d(1, 16, 4, stride=4), Drift(), nn.Linear(16 * 64, 10)

    def forward(self, images: Tensor) -> Tensor:
        grid = torch.linspace(0, 1, self.steps + 1, device=images.device)
        h = odeint(self.drift, self.stem(images), grid, method=self.method, rtol=1e-2, atol=1e-2)
        return self.head(F.relu(h[-1]).flatten(1))


def fit(model: nn.Module, data: ImageDataset, iterations: int) -> None:
    """Adam on the cross-entropy."""
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    images = to_float(data.images)
    for _ in range(iterations):
        batch = torch.randint(len(data), (64,))
        loss = F.cross_entropy(model(images[batch]), data.labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()


def main() -> None:
    small = "--small" in sys.argv
    torch.manual_seed(0)
    fixed = ODENet()
    fit(fixed, rb.load_dataset("digits", split="train"), 20 if small else 600)
    adaptive = ODENet("dopri5", steps=1)
    adaptive.load_state_dict(fixed.state_dict())
    adaptive.eval()
    test = rb.load_dataset("digits", images=20 if small else 200)
    for name, model in (("rk4", fixed), ("dopri5", adaptive)):
        classifier = rb.as_classifier(model, test, name=name)  # warns of what is suspicious
        result = rb.attack(classifier, test, "pgd", norm="linf", eps=0.03, steps=2 if small else 20)
        for _, row in result.summary.iterrows():
            print(
                f"{name:7} noise: {row['noise']:5} {row['perturbation']:8} accuracy {row['accuracy']:6.1%} "
                f"({row['accuracy_low']:.1%}-{row['accuracy_high']:.1%})"
            )


if __name__ == "__main__":
    main()
