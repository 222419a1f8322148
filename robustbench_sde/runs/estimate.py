"""Estimates of how long cells will take: images x passes x the time of a pass, which is measured.

The passes of a cell are draws x steps x restarts of its attack and the draws of its scoring. One forward pass
and one gradient of every checkpoint are timed, and every corruption on a few images. An attack that finishes
many images early takes less than the estimate.
"""

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.runs.cells import Cell, CertifyCell
from robustbench_sde.runs.cluster.shards import groups, pieces
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.sde.draws import Draws, Stream

#: Seconds that a shard takes beside its work, and a worker to start: from `benchmarks/ray_efficiency.py`.
SHARD_SECONDS, START_SECONDS = 0.02, 6.0
#: Images that a corruption is timed on.
_TIMED = 4


@dataclass(frozen=True)
class Passes:
    """Passes of one draw each that an image takes."""

    #: forward passes alone
    forward: float = 0.0
    #: forward passes that are followed by a backward pass
    gradient: float = 0.0


def seconds_by_cell(work: Work, compute: Compute) -> dict[Cell, float]:
    """Estimate the seconds of each cell for one worker; the first of several scorings makes the images."""
    data = work.data
    by_source: dict[Source, list[Cell]] = {}
    for cell in (*work.cells, *work.certified):
        by_source.setdefault(cell.source, []).append(cell)
    corruptions: dict[Perturbation, float] = {}
    found: dict[Cell, float] = {}
    for source, own in by_source.items():
        model = source.load(compute)
        forward, gradient = _seconds_a_pass(model, data, own[0].settings.rows)
        made: set[tuple[Perturbation, int]] = set()
        for cell in own:
            if isinstance(cell, CertifyCell):  # at most: most images stop early
                draws = cell.certificate.select_draws + cell.certificate.draws
                found[cell] = forward * draws * len(data)
                continue
            points = cell.perturbation.random_points
            seconds = forward * (points or (cell.settings.most_draws if model.stochastic else 1))
            images = cell.perturbation, cell.settings.seed
            if images not in made:
                made.add(images)
                if isinstance(cell.perturbation, Attack | Control):
                    passes = passes_of(cell.perturbation, model)
                    seconds += forward * passes.forward + gradient * passes.gradient
                elif not isinstance(cell.perturbation, Clean):
                    if cell.perturbation not in corruptions:
                        corruptions[cell.perturbation] = _seconds_an_image(cell.perturbation, model, data)
                    seconds += corruptions[cell.perturbation]
            found[cell] = seconds * len(data)
    return found


def passes_of(attack: Attack | Control, model: RandomClassifier) -> Passes:
    """Count the passes that an attack takes for an image, at most."""
    if isinstance(attack, Control):
        one = attack.attack
        model = one.crafted_on(model)
        return Passes(gradient=(one.eot_draws if model.stochastic else 1) * min(2, one.restarts))
    if attack.random_points:  # made without the model
        return Passes()
    model = attack.crafted_on(model)
    capped = attack.capped(model)
    members = capped.members(model)
    forward = gradient = 0.0
    for member in members:
        each = member.steps * member.gradients_per_step(model) * member.draws_per_look(model)
        if member.gradients:
            gradient += each
        else:
            forward += each
    turns = len(members) * capped.restarts
    if turns > 1:  # the worst is chosen on draws of its own
        forward += len(members) * (capped.select_draws if model.stochastic else 1)
    return Passes(forward * capped.restarts, gradient * capped.restarts)


def seconds_with(workers: int, seconds: Mapping[Cell, float], images: int, shard_images: int) -> float:
    """Estimate the wall time of an engine that gives each free worker the next shard."""
    free = [START_SECONDS] * workers
    for group in groups(list(seconds)):
        work = sum(seconds[cell] for cell in group) / images
        for piece in pieces(group, images, shard_images):
            busy = len(range(images)[piece]) * work + SHARD_SECONDS
            heapq.heapreplace(free, free[0] + busy)
    return max(free)


def _seconds_a_pass(model: RandomClassifier, data: ImageDataset, rows: int) -> tuple[float, float]:
    """Measure the wall time of a forward pass and of a gradient of one image and draw."""
    draws = Draws(0, Stream.AUDIT, range(8 if model.stochastic else 1))
    count = min(len(data), max(1, min(rows, 64) // len(draws)))
    images, ids = to_float(data.images[:count]).to(model.device), data.ids[:count]

    def forward() -> None:
        with torch.no_grad():
            model.logits(images, ids, draws).cpu()

    def gradient() -> None:
        x = images.clone().requires_grad_()
        torch.autograd.grad(model.logits(x, ids, draws).sum(), x)[0].cpu()

    each = count * len(draws)
    return _fastest(forward) / each, _fastest(gradient) / each


def _seconds_an_image(perturbation: Perturbation, model: RandomClassifier, data: ImageDataset) -> float:
    few = data.select(data.ids[:_TIMED])
    images = to_float(few.images)
    return _fastest(lambda: perturbation(model, images, few.labels, few.ids), 1) / len(few)


def _fastest(call: Callable[[], object], times: int = 2) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
