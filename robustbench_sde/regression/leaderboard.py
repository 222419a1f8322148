"""Rank the models of several runs by their lowest accuracy under attacks of one budget.

The rank of a model is one more than the number of models that are better beyond chance, so that models which
the images do not tell apart share a rank. Two models are compared image by image where both were attacked on
the same images, and else as two samples; Holm's correction covers all pairs of a board.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import ndtr

from robustbench_sde.evaluation import paired
from robustbench_sde.evaluation.certificate_report import CERTIFIED_NAME
from robustbench_sde.evaluation.statistics import Interval, wilson
from robustbench_sde.regression.answer import ALPHA
from robustbench_sde.regression.measured import ComparedCell, Side
from robustbench_sde.regression.measures import compare_decisions
from robustbench_sde.regression.networks import group_by_network

#: share of the images of the smaller side that both must have for a comparison image by image
_ENOUGH_COMMON = 0.5


@dataclass(frozen=True)
class Standing:
    """Place of a model on a board."""

    rank: int
    #: number of other models that share the rank or are not told apart from it
    tied: int
    model: str
    run: str
    #: noise at test time: none, keyed, or the terms of the SDE
    noise: str
    #: number of images under the worst attack
    images: int
    #: lowest accuracy under an attack of this norm and at most this budget, with its 95 % interval
    worst: Interval
    #: name and budget of that attack
    worst_attack: str
    #: attacks of this norm and at most this budget
    attacks: tuple[str, ...]
    #: accuracy on clean images; None if the run has none
    clean: Interval | None
    #: certified accuracy at this budget; None without certificates
    certified: Interval | None


@dataclass(frozen=True)
class Board:
    """Models that were attacked on one data set within one budget, by rank, then by accuracy."""

    dataset: str
    #: hash of the pixels and labels of the whole split
    fingerprint: str
    norm: str
    eps: float
    standings: tuple[Standing, ...]
    #: faults and remarks
    notes: tuple[str, ...] = ()
    #: number of pairs of models that were compared image by image, and as two samples
    paired: int = 0
    unpaired: int = 0


@dataclass(frozen=True, eq=False)
class _Model:
    name: str
    run: str
    cells: Sequence[ComparedCell]

    def under(self, norm: str, eps: float) -> list[ComparedCell]:
        """List the cells of attacks of this norm within this budget."""
        return [
            cell
            for cell in self.cells
            if _is_attack(cell) and cell.facts.norm == norm and (cell.facts.eps or 0) <= eps
        ]

    def find(self, perturbation: str, eps: float | None = None) -> Interval | None:
        """Return the accuracy of a cell by name and budget; None if there is none."""
        for cell in self.cells:
            if cell.facts.perturbation == perturbation and eps in (None, cell.facts.eps):
                return _accuracy(cell)
        return None


def make_boards(runs: Mapping[str, Side]) -> list[Board]:
    """Make a board for each data set, norm and budget at which a model of the runs was attacked.

    Args:
        runs: the runs by the names that they get on the boards.

    Returns:
        Boards by data set, norm and budget. A row that must not be used is left out, and a note says so.
    """
    models: dict[tuple[str, str], list[_Model]] = {}
    bad: dict[tuple[str, str], list[str]] = {}
    for run, side in runs.items():
        by_data: dict[tuple[str, str], list[ComparedCell]] = {}
        for cell in side.cells:
            key = (cell.facts.dataset, cell.facts.fingerprint)
            by_data.setdefault(key, []).append(cell)
            if cell.status != "ok":
                bad.setdefault(key, []).append(f"{run}: {cell.facts.label} is {cell.status}")
        for key, cells in by_data.items():
            models.setdefault(key, []).extend(
                _Model(name, run, own) for name, own in _by_network(cells).items()
            )
    return [
        _board(key, norm, eps, own, bad.get(key, []))
        for key, own in sorted(models.items())
        for norm, eps in sorted({_threat(cell) for one in own for cell in one.cells} - {("", 0.0)})
    ]


def _by_network(cells: Sequence[ComparedCell]) -> dict[str, list[ComparedCell]]:
    """Group all valid cells by network, under the names that `group_by_network` gives."""
    names = {
        _identity(next(iter(own.values()))): name for name, own in group_by_network(cells).items() if own
    }
    found: dict[str, list[ComparedCell]] = {}
    for cell in cells:
        if cell.status == "ok":
            found.setdefault(names[_identity(cell)], []).append(cell)
    return found


def _identity(cell: ComparedCell) -> tuple[object, ...]:
    facts = cell.facts
    return (
        facts.checkpoint,
        facts.noise,
        facts.sigma,
        facts.solver,
        facts.solver_steps,
        facts.rule,
        facts.seed,
    )


def _board(
    data: tuple[str, str], norm: str, eps: float, models: Sequence[_Model], bad: Sequence[str]
) -> Board:
    worst = {}
    for model in models:
        cells = model.under(norm, eps)
        if any(cell.facts.eps == eps for cell in cells):
            worst[model] = min(cells, key=lambda cell: float(cell.correct.mean()))
    ordered = sorted(worst, key=lambda model: -float(worst[model].correct.mean()))
    pairs = list(combinations(ordered, 2))
    compared = [_compare(worst[one], worst[other]) for one, other in pairs]
    adjusted = paired.holm([p for p, _ in compared])
    better = {pair for pair, p in zip(pairs, adjusted, strict=True) if p <= ALPHA}
    standings = []
    for model in ordered:
        cell = worst[model]
        above = sum((other, model) in better for other in ordered)
        apart = sum((other, model) in better or (model, other) in better for other in ordered)
        standings.append(
            Standing(
                rank=1 + above,
                tied=len(ordered) - 1 - apart,
                model=model.name,
                run=model.run,
                noise=cell.facts.noise,
                images=len(cell.ids),
                worst=_accuracy(cell),
                worst_attack=_attack_name(cell),
                attacks=tuple(dict.fromkeys(_attack_name(each) for each in model.under(norm, eps))),
                clean=model.find("clean"),
                certified=model.find(CERTIFIED_NAME, eps) if norm == "l2" else None,
            )
        )
    efforts = {frozenset(_effort(cell) for cell in model.under(norm, eps)) for model in ordered}
    notes = []
    if len(efforts) > 1:
        notes.append(
            "The models were not attacked alike: a weaker attack makes a model look better. The column "
            "of attacks says what each was attacked with."
        )
    notes += [f"Left out, {text}." for text in bad]
    together = sum(with_images for _, with_images in compared)
    standings.sort(key=lambda row: row.rank)  # those that share a rank stay in order of accuracy
    return Board(*data, norm, eps, tuple(standings), tuple(notes), together, len(compared) - together)


def _compare(one: ComparedCell, other: ComparedCell) -> tuple[float, bool]:
    """Return the two-sided p-value of equal accuracies, and whether images were paired."""
    common, left, right = np.intersect1d(one.ids, other.ids, assume_unique=True, return_indices=True)
    if len(common) >= _ENOUGH_COMMON * min(len(one.ids), len(other.ids)):
        return compare_decisions(one.correct[left], other.correct[right], ALPHA).p, True
    sizes = len(one.ids), len(other.ids)
    shares = float(one.correct.mean()), float(other.correct.mean())
    pooled = (shares[0] * sizes[0] + shares[1] * sizes[1]) / sum(sizes)
    error = math.sqrt(pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]))
    return (1.0 if error == 0 else float(2 * ndtr(-abs(shares[0] - shares[1]) / error))), False


def _is_attack(cell: ComparedCell) -> bool:
    facts = cell.facts
    return bool(facts.norm) and bool(facts.eps) and facts.perturbation != CERTIFIED_NAME


def _threat(cell: ComparedCell) -> tuple[str, float]:
    return (cell.facts.norm, float(cell.facts.eps or 0)) if _is_attack(cell) else ("", 0.0)


def _accuracy(cell: ComparedCell) -> Interval:
    return wilson(float(cell.correct.mean()), len(cell.ids))


def _attack_name(cell: ComparedCell) -> str:
    """Name an attack with its steps and its budget: ``pgd 20 steps at 0.03``."""
    steps = cell.parameters.get("steps", "")
    return f"{cell.facts.perturbation}{f' {steps} steps' if steps else ''} at {cell.facts.eps:g}"


def _effort(cell: ComparedCell) -> tuple[Any, ...]:
    """Return what an attack does, without what depends on the model."""
    known = sorted((name, value) for name, value in cell.parameters.items() if name not in ("passes",))
    return (cell.facts.perturbation, cell.facts.eps, *(known or [("settings", cell.facts.settings)]))
