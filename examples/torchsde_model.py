"""A Neural SDE written with torchsde, evaluated end to end.

    python examples/torchsde_model.py            # about a minute on one core
    python examples/torchsde_model.py --small    # seconds

torchsde takes the entropy of a Brownian path from numpy's global generator, so that `torch.manual_seed`
does not reproduce a forward pass. Here the entropy comes from torch's generator (`Pinned`), which sde-bench
forks and seeds by seed, image and draw: the run is done twice, and every record agrees. `Keyed` goes
further: it hands torchsde increments made of noise that it is given, so that whole batches of images and
draws are one pass.

Gradients are those of `sdeint`. With `sdeint_adjoint` they would be those of another discretisation, 10 %
off, and an attack weaker than it says.
"""

import sys
import warnings

import torch
import torchsde
from torch import Tensor, nn
from torch.nn import functional as F

import robustbench_sde as rb
from robustbench_sde.api.result import Result
from robustbench_sde.data import ImageDataset, to_float

STEPS = 8
WIDTH = 64


class Flow(nn.Module):
    """dh = f(h) dt + 0.5 h dB in Itô's sense, every feature with a Brownian motion of its own."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))

    def f(self, t, h):
        return self.net(h)

    def g(self, t, h):
        return 0.5 * h


class Pinned(nn.Module):
    """Images (B, 1, 32, 32) in [0, 1] to logits (B, 10); torch's generator decides the Brownian path."""

    def __init__(self):
        super().__init__()
        self.stem, self.flow, self.head = nn.Linear(64, WIDTH), Flow(), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        entropy = int(torch.randint(2**31 - 1, ()))
        return self.solve(images, torchsde.BrownianInterval(0.0, 1.0, (len(images), WIDTH), entropy=entropy))

    def solve(self, images: Tensor, path: torchsde.BaseBrownian) -> Tensor:
        h = self.stem(F.avg_pool2d(images, 4).flatten(1))
        h = torchsde.sdeint(self.flow, h, torch.tensor([0.0, 1.0]), bm=path, method="euler", dt=1 / STEPS)
        return self.head(h[-1])


class Increments(torchsde.BaseBrownian):
    """Brownian increments on the grid of the solver, made of standard normals (B, steps, features)."""

    dtype, device, shape, levy_area_approximation = torch.float32, None, None, "none"

    def __init__(self, normals: Tensor):
        self.device, self.shape, self.normals = normals.device, normals[:, 0].shape, normals

    def __call__(self, ta, tb=None, return_U=False, return_A=False):
        return self.normals[:, round(float(ta) * STEPS)] / STEPS**0.5

    def __repr__(self):
        return f"Increments(steps={STEPS})"


class Keyed(Pinned):
    """A network with the two methods by which sde-bench hands a module its noise (docs/your-model.md)."""

    def noise_shape(self, image_shape):
        return STEPS, WIDTH

    def forward_with_noise(self, images: Tensor, noise: Tensor) -> Tensor:
        return self.solve(images, Increments(noise))


def fit(model: nn.Module, data: ImageDataset, iterations: int) -> None:
    """Adam on the cross-entropy of one draw."""
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
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
    images, settings = (
        (8, {"steps": 3, "score_draws": 8}) if small else (100, {"steps": 20, "score_draws": 32})
    )
    test = rb.load_dataset("digits", images=images)
    torch.manual_seed(0)
    pinned, keyed = Pinned(), Keyed()
    fit(pinned, rb.load_dataset("digits", split="train"), 40 if small else 1000)
    keyed.load_state_dict(pinned.state_dict())
    keyed.eval()

    def run(module: nn.Module) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes about the module, the same in every run; read them once
            return rb.attack(module, test, "pgd", norm="linf", eps=0.05, eot_draws=8, **settings)

    results = {"pinned": run(pinned), "pinned, again": run(pinned), "keyed": run(keyed)}
    for name, result in results.items():
        for _, row in result.summary.iterrows():
            print(
                f"{name:14} noise: {row['noise']:7} {row['perturbation']:8} accuracy {row['accuracy']:6.1%} "
                f"({row['accuracy_low']:.1%}-{row['accuracy_high']:.1%})  undecided {row['undecided']:.0%}"
            )
    first, again = results["pinned"], results["pinned, again"]
    assert first.records.equals(again.records), "a run must reproduce"
    print("every record of the second run equals that of the first")


if __name__ == "__main__":
    main()
