"""What a gradient of an attack costs, as a multiple of the same convolutions alone.

A 64-channel drift on 16x16 states, 8 steps, 8 images x 8 draws, fresh keyed noise in every gradient. The
variants are measured in turn; the table has the medians over the rounds of each one's time over that of the
convolutions of the same round, once with the memory allocator as it comes and once as the program sets it.

Run: python benchmarks/gradient.py [--rounds 15] [--threads 1] [--clock thread]
On a machine that is not idle, `--clock thread` counts the CPU time of the main thread in place of wall time.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.sde.heap import keep_freed_memory

IMAGES, DRAWS, STEPS, SIGMA = 8, 8, 8, 0.5


def network() -> Classifier:
    """Untrained, frozen, with multiplicative noise."""
    spec = ModelSpec(
        channels=3,
        height=32,
        width=32,
        classes=10,
        features=64,
        stem_strides=(2,),
        steps=STEPS,
        noise=(NoiseSpec(kind="multiplicative", sigma=SIGMA),),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    return Classifier.initialised(spec, 0).requires_grad_(False).eval()


class Variants:
    """Each a function that makes one forward pass, or one gradient, of the same size."""

    def __init__(self, model: Classifier) -> None:
        self.model, self.flow = model, model.flows[0]
        self.images = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        self.labels = torch.zeros(IMAGES, dtype=torch.int64)

    def convolutions(self, images: Tensor) -> Tensor:
        """Run the convolutions of stem and drift on as many rows; draws share the first drift."""
        stem: Any = self.model.stem.conv1
        convs: tuple[Any, ...] = (self.flow.conv1, self.flow.conv2)
        h = F.conv2d(images, stem.weight, stem.bias, stride=2, padding=1)
        for step in range(STEPS):
            if step == 1:
                h = h.expand(DRAWS, *h.shape).flatten(0, 1) if len(h) == IMAGES else h
            for conv in convs:
                h = F.conv2d(h, conv.weight, conv.bias, padding=1)
        return h

    def usual(self, images: Tensor) -> Tensor:
        """A careful loop as one writes it: draws folded, torch.randn in every step."""
        model, dt = self.model, 1 / STEPS
        h = model.stem((images - model.mean) / model.std).repeat(DRAWS, 1, 1, 1)
        for step in range(STEPS):
            noise = SIGMA * h * torch.randn_like(h) * math.sqrt(dt)
            h = h + self.flow(step * dt, h) * dt + noise
        logits: Tensor = model.head(h)
        return logits

    def usual_gradient(self, *, frozen: bool) -> None:
        """Take the gradient of the loss of the mean probability."""
        images = self.images.clone().requires_grad_()
        self.model.requires_grad_(not frozen)
        probs = self.usual(images).softmax(-1).unflatten(0, (DRAWS, IMAGES)).mean(0)
        probs[:, 0].log().sum().backward()
        self.model.requires_grad_(False).zero_grad()

    def convolutions_gradient(self) -> None:
        """Differentiate the convolutions with respect to the images."""
        images = self.images.clone().requires_grad_()
        h = self.convolutions(images)
        torch.autograd.grad(h, images, h)

    def ours(self, **compute: object) -> Victim:
        """Take the gradient as an attack asks for it."""
        model = self.model.with_compute(Compute(**compute))  # type: ignore[arg-type]
        batch = Batch(self.images, self.labels, torch.arange(IMAGES))
        return Victim(model, batch, seed=0, eot_draws=DRAWS, restart=0)

    def table(self) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
        """(forward pass, gradient) by name; the first is what the others are compared with."""
        host, device, compiled = self.ours(), self.ours(noise_backend="device"), self.ours(compile=True)
        return {
            "the convolutions alone": (lambda: self.convolutions(self.images), self.convolutions_gradient),
            "the usual way": (lambda: self.usual(self.images), lambda: self.usual_gradient(frozen=False)),
            "  + frozen parameters": (
                lambda: self.usual(self.images),
                lambda: self.usual_gradient(frozen=True),
            ),
            "sde-bench": (lambda: host.look(self.images, 0), lambda: host.gradient(self.images, 0)),
            "  --noise-backend device": (
                lambda: device.look(self.images, 0),
                lambda: device.gradient(self.images, 0),
            ),
            "  --compile": (lambda: compiled.look(self.images, 0), lambda: compiled.gradient(self.images, 0)),
        }


def measure(rounds: int, clock: Callable[[], float]) -> None:
    """Print the ratios of each variant."""
    table = Variants(network()).table()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
    for _ in range(rounds + 1):  # the first warms up
        for name, (forward, gradient) in table.items():
            started = clock()
            with torch.no_grad():
                forward()
            between = clock()
            gradient()
            seconds[name].append((between - started, clock() - between))
    base = next(iter(seconds.values()))[1:]
    for name, found in seconds.items():
        ratios = [
            statistics.median(mine[kind] / theirs[kind] for mine, theirs in zip(found[1:], base, strict=True))
            for kind in (0, 1)
        ]
        print(f"  {name:<28} {ratios[0]:8.2f} {ratios[1]:10.2f}", flush=True)
    print(
        "  (convolutions: {:.0f} ms, {:.0f} ms)".format(
            *(1e3 * statistics.median(s) for s in zip(*base, strict=True))
        )
    )


def main() -> None:
    """Each allocator in a process of its own: the setting cannot be taken back."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "thread"), default="wall")
    parser.add_argument("--allocator", choices=("default", "keep"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.allocator is None:
        print(f"{'64 channels, 16x16, 8 steps, 8 images x 8 draws':<30}")
        print(f"{'':<30} {'forward':>8} {'+ gradient':>10}")
        for allocator, what in (
            ("default", "memory as glibc handles it"),
            ("keep", "freed memory kept, as set"),
        ):
            print(what, flush=True)
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--allocator", allocator], check=True)
        return
    torch.set_num_threads(options.threads)
    if options.allocator == "keep":
        keep_freed_memory()
    measure(options.rounds, time.perf_counter if options.clock == "wall" else time.thread_time)


if __name__ == "__main__":
    main()
