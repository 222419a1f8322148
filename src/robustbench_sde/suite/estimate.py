"""How long cells will take: the passes that they ask for, times one timed pass of each checkpoint."""

import time
from collections.abc import Iterable

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.suite.cells import Cell, Source

#: What a gradient with respect to the image costs, in forward passes.
_GRADIENT = 2.5


def estimate_seconds(cells: Iterable[Cell], data: ImageDataset, compute: Compute) -> float:
    """An estimate, on the low side: attacks may look at more than their steps, corruptions count as free."""
    by_source: dict[Source, list[Cell]] = {}
    for cell in cells:
        by_source.setdefault(cell.source, []).append(cell)
    total = 0.0
    for source, own in by_source.items():
        model = source.load(compute)
        images = {(cell.perturbation, cell.settings.seed): passes(cell, model) for cell in own}
        scoring = sum(cell.settings.most_draws if model.stochastic else 1 for cell in own)
        rows = own[0].settings.rows
        total += (sum(images.values()) + scoring) * len(data) * _seconds_a_pass(model, data, rows)
    return total


def passes(cell: Cell, model: RandomClassifier) -> float:
    """Passes of one draw that the perturbation of a cell takes for an image, in forward passes."""
    attack = cell.perturbation
    if isinstance(attack, Control):
        return _GRADIENT * (attack.attack.eot_draws if model.stochastic else 1)
    if not isinstance(attack, Attack):
        return 0.0
    capped = attack.capped(model)
    steps = sum(
        member.steps * (member.eot_draws if model.stochastic else 1)
        * (_GRADIENT * member.gradients_per_step(model) if member.gradients else 1)
        for member in capped.members(model)
    )  # fmt: skip
    return float(steps * capped.restarts)


def _seconds_a_pass(model: RandomClassifier, data: ImageDataset, rows: int) -> float:
    """Wall time of one forward pass of one image and draw, in the better of two batches."""
    draws = Draws(0, Stream.AUDIT, range(8 if model.stochastic else 1))
    count = min(len(data), max(1, min(rows, 64) // len(draws)))
    images = to_float(data.images[:count]).to(model.device)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        model.logits(images, data.ids[:count], draws).cpu()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / (count * len(draws))
