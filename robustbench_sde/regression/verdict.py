"""Verdicts: of a measure, of a cell, of the whole. `docs/ci.md` says what they mean."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from robustbench_sde.errors import ExitCode
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.regression.policy import Limits


class Verdict(StrEnum):
    """What is said of a measure, of a cell and of the whole, from the best to the worst."""

    #: a drop above `max_drop` is excluded
    OK = "ok"
    #: better, beyond chance
    IMPROVED = "improved"
    #: a drop above `max_drop` is neither shown nor excluded
    INCONCLUSIVE = "inconclusive"
    #: not the same measurement, missing, or not valid
    INCOMPARABLE = "incomparable"
    #: worse beyond chance, by more than `max_drop`
    REGRESSION = "regression"


def points(share: float) -> str:
    """Points of a hundred, like ``2``, ``-0.3``."""
    return f"{round(100 * share, 1) + 0.0:g}"


@dataclass(frozen=True)
class Change:
    """One accuracy in both runs, over the images that both have."""

    #: `accuracy` or `single_draw_accuracy`
    measure: str
    baseline: float
    run: float
    #: baseline less run, with its 1 - alpha interval (of this cell alone)
    drop: Interval
    #: of the exact paired test, two-sided, alone and adjusted for all tests of the comparison
    p: float
    p_holm: float
    verdict: Verdict
    #: smallest true drop that so many images would find in 80 % of runs; None unless inconclusive
    detectable_drop: float | None = None
    #: how many images would find `max_drop` in 80 % of runs; None unless inconclusive, or beyond 10 million
    images_needed: int | None = None

    def sentence(self, images: int, max_drop: float) -> str:
        """The verdict in words."""
        what = "accuracy" if self.measure == "accuracy" else "single-draw accuracy"
        low, high = points(self.drop.low), points(self.drop.high)
        if self.verdict is Verdict.REGRESSION:
            return f"{what} lost {points(self.drop.estimate)} ({low} to {high}) points, p = {self.p_holm:.2g}"
        if self.verdict is Verdict.IMPROVED:
            return f"{what} gained {points(-self.drop.estimate)} points, p = {self.p_holm:.2g}"
        if self.verdict is Verdict.OK:
            return f"{what} lost {points(max(0.0, self.drop.high))} points at most"
        needed = "more than 10 million" if self.images_needed is None else f"{self.images_needed:,}"
        return (
            f"{what} lost {low} to {high} points; {images:,} images find a loss of "
            f"{points(self.detectable_drop or 1.0)} at 80 % power, one of {100 * max_drop:g} takes {needed}"
        )


@dataclass(frozen=True)
class CellVerdict:
    """What is said of one cell of the baseline."""

    name: str
    verdict: Verdict
    #: one line for people
    reason: str
    limits: Limits
    #: in both runs
    images: int = 0
    #: of the baseline, of the run (None where it is missing)
    seeds: tuple[int, int | None] = (0, None)
    changes: tuple[Change, ...] = ()
    #: the run's cell failed a control or a verification: exit code 4
    invalid: bool = False

    @property
    def decisive(self) -> bool:
        """Whether the overall verdict depends on it."""
        return self.limits.required or self.verdict is Verdict.REGRESSION


@dataclass(frozen=True)
class Comparison:
    """The whole verdict."""

    baseline: str
    run: str
    alpha: float
    cells: tuple[CellVerdict, ...]
    #: what a reader should know besides
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the cells that count."""
        decisive = [cell.verdict for cell in self.cells if cell.decisive]
        return max(decisive, key=list(Verdict).index, default=Verdict.OK)

    @property
    def exit_code(self) -> ExitCode:
        """A regression is 1; else an invalid cell is 4, an incomparable one 2, an inconclusive one 3."""
        invalid = any(cell.invalid and cell.decisive for cell in self.cells)
        return {
            Verdict.REGRESSION: ExitCode.REGRESSION,
            Verdict.INCOMPARABLE: ExitCode.INVALID if invalid else ExitCode.INPUT_ERROR,
            Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        }.get(self.verdict, ExitCode.OK)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        cells = [
            asdict(cell)
            | {"limits": cell.limits.model_dump()}
            | {"changes": [asdict(change) | {"drop": change.drop._asdict()} for change in cell.changes]}
            for cell in self.cells
        ]
        return {
            "verdict": self.verdict,
            "exit_code": int(self.exit_code),
            "baseline": self.baseline,
            "run": self.run,
            "alpha": self.alpha,
            "notes": list(self.notes),
            "cells": cells,
        }
