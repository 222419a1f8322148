"""How often `sde-bench compare` is right, on a shipped checkpoint and a cheap attack.

Three counts: pairs of runs of one checkpoint with different seeds that are called a regression (at most
alpha); runs of checkpoints damaged to lose 5 points that are caught, or called inconclusive with a number of
images that does catch them; and the latter turned around, none of which may be called a regression.

Run: python benchmarks/gate.py [--pairs 40]    (about ten minutes on one core)
"""

import argparse
import copy
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.regression.compare import compare
from robustbench_sde.regression.measured import ComparedCell, Side, measured
from robustbench_sde.regression.policy import Policy
from robustbench_sde.regression.verdict import Comparison, Verdict
from robustbench_sde.sde.draws import KeyedRandom, Stream

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "digits-additive.safetensors"
ATTACK = make_attack("pgd", norm="linf", eps=0.03, steps=2, eot_draws=2)
DROP, DAMAGES, CALIBRATION_SEED = 0.05, 8, 10_000


def run(model: Classifier, data: ImageDataset, seed: int) -> Side:
    """Run a suite of clean and one attack."""
    settings = ScoreSettings(draws=8, seed=seed)
    results = [(p, evaluate(model, data, p, settings)) for p in (Clean(), ATTACK)]
    return Side(f"seed {seed}", tuple(measured(r.row, r.records, repr(p)) for p, r in results))


def attacked_accuracy(side: Side) -> float:
    """Return the accuracy of the last cell."""
    return float(side.cells[-1].correct.mean())


def damaged(model: Classifier, key: int, scale: float) -> Classifier:
    """Add keyed noise to all weights, relative to the spread of each tensor."""
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in broken.named_parameters():
            if weight.numel() > 1:
                noise = KeyedRandom(key, Stream.AUDIT, f"damage/{name}").normals([0], weight.shape)[0]
                weight.add_(noise, alpha=scale * float(weight.std()))
    return broken


def damaged_by_five_points(model: Classifier, data: ImageDataset, key: int, before: float) -> Classifier:
    """Damage whose scale is searched on a seed of its own until the attacked accuracy has lost `DROP`."""
    low, high = 0.0, 0.2
    for _ in range(7):
        scale = (low + high) / 2
        broken = damaged(model, key, scale)
        lost = before - attacked_accuracy(run(broken, data, CALIBRATION_SEED))
        if abs(lost - DROP) <= 1.5 / len(data):
            break
        low, high = (scale, high) if lost < DROP else (low, scale)
    print(f"damage {key}: noise of {scale:.3f} standard deviations loses {100 * lost:.1f} points", flush=True)
    return broken


def with_enough_images(baseline: Side, other: Side, comparison: Comparison) -> Comparison:
    """The comparison again, on as many images as it asks for, drawn from those that are there."""
    needed = max(change.images_needed or 0 for cell in comparison.cells for change in cell.changes)
    chosen = np.random.default_rng(needed).integers(len(baseline.cells[0].ids), size=needed)

    def drawn(cell: ComparedCell) -> ComparedCell:
        return replace(
            cell, ids=np.arange(needed), correct=cell.correct[chosen], right_draws=cell.right_draws[chosen]
        )

    old, now = (replace(side, cells=tuple(map(drawn, side.cells))) for side in (baseline, other))
    return compare(old, now, Policy())


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    started = time.perf_counter()
    data, model = rb.load_dataset("digits"), rb.load_checkpoint(CHECKPOINT)
    sides = [run(model, data, seed) for seed in range(2 * pairs)]
    accuracies = [attacked_accuracy(side) for side in sides]
    print(f"{model.name}, {len(data)} images, {ATTACK}: accuracy {np.mean(accuracies):.1%}", flush=True)
    same = Counter(str(compare(sides[2 * k], sides[2 * k + 1], Policy()).verdict) for k in range(pairs))
    print(f"same checkpoint, {pairs} pairs of seeds: {dict(same)}", flush=True)

    before = attacked_accuracy(run(model, data, CALIBRATION_SEED))
    broken = [damaged_by_five_points(model, data, key, before) for key in range(DAMAGES)]
    found: Counter[str] = Counter()
    again: Counter[str] = Counter()
    mirrored: Counter[str] = Counter()
    losses = []
    for k in range(pairs):
        other = run(broken[k % DAMAGES], data, 2 * pairs + k)
        losses.append(accuracies[k] - attacked_accuracy(other))
        comparison = compare(sides[k], other, Policy())
        found[str(comparison.verdict)] += 1
        mirrored[str(compare(other, sides[k], Policy()).verdict)] += 1
        if comparison.verdict is Verdict.INCONCLUSIVE:
            again[str(with_enough_images(sides[k], other, comparison).verdict)] += 1
    print(f"damaged, {pairs} runs that lost {100 * np.mean(losses):.1f} points on average: {dict(found)}")
    print(f"  the inconclusive ones with as many images as they ask for: {dict(again)}")
    print(f"turned around (improved): {dict(mirrored)}")
    print(f"({time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    main()
