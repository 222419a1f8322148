"""What looking for wrong numbers costs: its share of the CPU time of an attack.

    python -m benchmarks.health [--images 64] [--rounds 5] [--steps 5]

Every attack looks at each gradient for entries that are zero, not finite or saturated. The time of exactly
that is taken inside a `pgd` with 8 draws a gradient, on three networks in turn, several rounds; images of the
CIFAR-10 shape are random ones. As a share of the CPU time of the process it hardly depends on what else the
machine does.

A second table is for a module of somebody else (digits-ode as a module, 100 images): the comparison of each
image's first gradient with the module itself, and two rows of the first pass of every batch size run alone.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset
from robustbench_sde.models.modules.passes import Passes
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.health import GradientHealth
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
NETWORKS = ("digits-ode", "digits-multiplicative", "cifar-multiplicative")


class Clock(GradientHealth):
    """Counts as usual, and takes the time of it."""

    seconds = 0.0

    def count(self, rows: Tensor, gradient: Tensor, margin: Tensor, *, can_saturate: bool) -> Tensor:
        """Count one gradient of some images."""
        started = time.thread_time()
        peak = super().count(rows, gradient, margin, can_saturate=can_saturate)
        Clock.seconds += time.thread_time() - started
        return peak

    @property
    def shares(self) -> Tensor:
        """Count what is kept."""
        started = time.thread_time()
        found = super().shares
        Clock.seconds += time.thread_time() - started
        return found


class Timer:
    """Adds up the CPU time of the calls of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Call it."""
        started = time.thread_time()
        result = self.function(*inputs, **named)
        self.seconds += time.thread_time() - started
        return result


class Somebodys(nn.Module):
    """A module that does not say it is one of ours."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, classes)."""
        logits: Tensor = self.net(images)
        return logits


def share_of_checks(attack: str, module: nn.Module, data: ImageDataset) -> tuple[float, float, float]:
    """Attack a module at linf .03: the shares of both checks in the CPU time, and the whole in seconds."""
    compare, one_pass = Victim._compare, Passes._pass
    comparing, alone = Timer(compare), Timer(one_pass)

    def pass_(self: Passes, function: Callable[..., object], *inputs: Tensor) -> Tensor:
        checks = len(inputs[0]) == 1 and not torch.is_grad_enabled()
        found: Tensor = (alone if checks else one_pass)(self, function, *inputs)
        return found

    Victim._compare = lambda self, *inputs: comparing(self, *inputs)  # type: ignore[method-assign]
    Passes._pass = pass_  # type: ignore[method-assign]
    started = time.process_time()
    try:
        rb.attack(module, data, attack, eps=0.03)
    finally:
        Victim._compare, Passes._pass = compare, one_pass  # type: ignore[method-assign]
    whole = time.process_time() - started
    return comparing.seconds / whole, alone.seconds / whole, whole


def share(model: RandomClassifier, images: Tensor, steps: int) -> tuple[float, float]:
    """Measure one attack: the share of its CPU time that counting took, and the whole in seconds."""
    ids = torch.arange(len(images))
    with torch.no_grad():
        labels = model.logits(images, ids, Draws(0, Stream.AUDIT))[0].argmax(1)
    attack = make_attack("pgd", norm="linf", eps=1e-3, steps=steps)
    Clock.seconds, started = 0.0, time.process_time()
    attack(model, images, labels, ids)
    whole = time.process_time() - started
    return Clock.seconds / whole, whole


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    from robustbench_sde.perturbations.attacks import victim, worst

    victim.GradientHealth = worst.GradientHealth = Clock  # type: ignore[attr-defined,misc]
    models = [rb.load_checkpoint(CHECKPOINTS / f"{name}.safetensors") for name in NETWORKS]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NETWORKS}
    for turn in range(options.rounds):
        for name, model in zip(NETWORKS, models, strict=True):
            keyed = KeyedRandom(turn, Stream.ATTACK, "benchmark")
            images = keyed.uniforms(torch.arange(options.images), model.image_shape).float()
            found[name].append(share(model, images, options.steps))
    print(f"pgd, {options.images} images, {options.steps} steps, medians of {options.rounds} rounds\n")
    print("| network | counting, share of the attack, % (largest) | attack, CPU seconds |\n|---|---|---|")
    for name, rounds in found.items():
        shares, seconds = ([100 * row[0] for row in rounds], [row[1] for row in rounds])
        print(f"| {name} | {median(shares):.2f} ({max(shares):.2f}) | {median(seconds):.1f} |")
    net = models[0].as_module(draws=1)
    data = rb.load_dataset("digits", images=100)
    print("\n| attack | comparing, % | rows alone, % | attack, CPU seconds |\n|---|---|---|---|")
    for attack in ("pgd", "auto"):
        each = [share_of_checks(attack, Somebodys(net).eval(), data) for _ in range(options.rounds)]
        comparing, alone, seconds_ = (median(column) for column in zip(*each, strict=True))
        print(f"| {attack} | {100 * comparing:.1f} | {100 * alone:.1f} | {seconds_:.1f} |")


if __name__ == "__main__":
    main()
