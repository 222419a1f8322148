"""What counting bad gradients costs: its share of the CPU time of an attack.

    python -m benchmarks.health [--images 64] [--rounds 5] [--steps 5]

Every attack looks at each gradient for entries that are zero, not finite or saturated. The time of exactly
that is taken inside a `pgd` with 8 draws a gradient, on three networks in turn, several rounds; images of the
CIFAR-10 shape are random ones. As a share of the CPU time of the process it hardly depends on what else the
machine does.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

import robustbench_sde as rb
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.health import GradientHealth
from robustbench_sde.perturbations.attacks.registry import make_attack
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

    victim.GradientHealth = worst.GradientHealth = Clock  # type: ignore[attr-defined]
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


if __name__ == "__main__":
    main()
