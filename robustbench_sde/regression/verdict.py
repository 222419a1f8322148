"""Verdicts about a measure, a cell and the whole comparison; `docs/ci.md` explains them."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from robustbench_sde.errors import ExitCode
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.regression.policy import Limits
from robustbench_sde.shown import html_of


class Verdict(StrEnum):
    """Verdict about a measure, a cell or the whole comparison, from the best to the worst."""

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


#: measures in words
_WORDS = {
    "accuracy": "accuracy",
    "single_draw_accuracy": "single-draw accuracy",
    "certified_accuracy": "certified accuracy",
}


def points(share: float) -> str:
    """Format a share in points of a hundred, like ``2``, ``-0.3``."""
    return f"{round(100 * share, 1) + 0.0:g}"


@dataclass(frozen=True)
class Change:
    """Change of one accuracy between two runs, over the images that both have."""

    #: `accuracy`, `single_draw_accuracy`, `survives_K` or `certified_accuracy`
    measure: str
    baseline: float
    run: float
    #: baseline less run, with its 1 - alpha interval (of this cell alone)
    drop: Interval
    #: two-sided p-value of the exact paired test, alone and adjusted for all tests of the comparison
    p: float
    p_holm: float
    verdict: Verdict
    #: smallest true drop that so many images would find in 80 % of runs; None unless inconclusive
    detectable_drop: float | None = None
    #: number of images that would find `max_drop` in 80 % of runs; None if that is above 10 million,
    #: and unless inconclusive
    images_needed: int | None = None
    #: number of images that exclude `max_drop` if the result of none of them changes; None for other measures
    #: than accuracies of a decision, and unless inconclusive
    images_unchanged: int | None = None

    def sentence(self, images: int, max_drop: float) -> str:
        """Say the verdict in words."""
        what = (
            _WORDS.get(self.measure) or f"accuracy after {self.measure.removeprefix('survives_')} submissions"
        )
        low, high = points(self.drop.low), points(self.drop.high)
        if self.verdict is Verdict.REGRESSION:
            return f"{what} lost {points(self.drop.estimate)} ({low} to {high}) points, p = {self.p_holm:.2g}"
        if self.verdict is Verdict.IMPROVED:
            return f"{what} gained {points(-self.drop.estimate)} points, p = {self.p_holm:.2g}"
        if self.verdict is Verdict.OK:
            return f"{what} lost {points(max(0.0, self.drop.high))} points at most"
        needed = "more than 10 million" if self.images_needed is None else f"{self.images_needed:,}"
        unchanged = "" if self.images_unchanged is None else f" ({self.images_unchanged:,} if none changes)"
        return (
            f"{what} lost {low} to {high} points; {images:,} images find a loss of "
            f"{points(self.detectable_drop or 1.0)} at 80 % power, one of {100 * max_drop:g} takes "
            f"{needed}{unchanged}"
        )


@dataclass(frozen=True)
class CellVerdict:
    """Verdict about one cell of the baseline."""

    name: str
    verdict: Verdict
    #: one line for people
    reason: str
    limits: Limits
    #: number of images in both runs
    images: int = 0
    #: seeds of the baseline and of the run (None if the run lacks the cell)
    seeds: tuple[int, int | None] = (0, None)
    changes: tuple[Change, ...] = ()
    #: whether the run's cell failed a control or a verification (exit code 4)
    invalid: bool = False

    @property
    def decisive(self) -> bool:
        """Whether the overall verdict depends on it."""
        return self.limits.required or self.verdict is Verdict.REGRESSION


#: verdicts of cells in a count, in its order
_COUNTED = {
    Verdict.OK: "ok",
    Verdict.IMPROVED: "improved",
    Verdict.REGRESSION: "regressed",
    Verdict.INCOMPARABLE: "incomparable",
    Verdict.INCONCLUSIVE: "inconclusive",
}


@dataclass(frozen=True)
class FewerImages:
    """A run that is inconclusive because it has fewer images than its baseline."""

    #: number of images of the run and of the baseline
    run: int
    baseline: int
    #: command that makes the run with the images of the baseline; empty if that of the run is not known
    command: str

    def __str__(self) -> str:
        mend = f"`{self.command}`" if self.command else f"run it with {self.baseline:,} images"
        return f"the run has {self.run:,} images and the baseline {self.baseline:,}: {mend}"


@dataclass(frozen=True)
class Comparison:
    """Verdicts about all cells of a baseline."""

    baseline: str
    run: str
    alpha: float
    cells: tuple[CellVerdict, ...]
    #: remarks for the reader
    notes: tuple[str, ...]
    #: reason why cells are inconclusive; None if they have the images of the baseline
    fewer: FewerImages | None = None

    def __repr__(self) -> str:
        """Return one line: both sides, the verdict, and how many cells have each."""
        counts = self.counts or "no cells"
        return f"<Comparison: {self.baseline} -> {self.run}, {self.verdict} ({counts})>"

    def _repr_html_(self) -> str | None:
        """Return the table that the command prints, for notebooks."""
        return html_of(self)

    @property
    def verdict(self) -> Verdict:
        """Worst verdict of the cells that count."""
        decisive = [cell.verdict for cell in self.cells if cell.decisive]
        return max(decisive, key=list(Verdict).index, default=Verdict.OK)

    @property
    def counts(self) -> str:
        """Number of cells with each verdict, like ``48 ok, 4 regressed``."""
        verdicts = [cell.verdict for cell in self.cells]
        return ", ".join(
            f"{verdicts.count(verdict)} {word}" for verdict, word in _COUNTED.items() if verdict in verdicts
        )

    @property
    def changed(self) -> tuple[CellVerdict, ...]:
        """Cells that are not ok, the worst first; without those that only lack images (`fewer`)."""
        silent = {Verdict.OK} | ({Verdict.INCONCLUSIVE} if self.fewer else set())
        order = list(Verdict)
        found = [cell for cell in self.cells if cell.verdict not in silent]
        return tuple(
            sorted(
                found,
                key=lambda cell: (
                    -order.index(cell.verdict),
                    -max((change.drop.estimate for change in cell.changes), default=0.0),
                ),
            )
        )

    @property
    def sentence(self) -> str:
        """Verdict, counts and the worst cell or the lack of images in one line."""
        worst = next(iter(self.changed), None)
        why = f"; {self.fewer}" if self.fewer else ""
        if worst is not None and worst.verdict is not Verdict.IMPROVED:
            why = f"; {worst.name}: {worst.reason}"
        return f"{self.verdict}: {self.counts}{why}"

    @property
    def exit_code(self) -> ExitCode:
        """Exit code: 1 for a regression, else 4 for an invalid cell, 2 if incomparable, 3 if inconclusive."""
        invalid = any(cell.invalid and cell.decisive for cell in self.cells)
        return {
            Verdict.REGRESSION: ExitCode.REGRESSION,
            Verdict.INCOMPARABLE: ExitCode.INVALID if invalid else ExitCode.INPUT_ERROR,
            Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        }.get(self.verdict, ExitCode.OK)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        cells = [
            asdict(cell)
            | {"limits": cell.limits.model_dump()}
            | {"changes": [asdict(change) | {"drop": change.drop._asdict()} for change in cell.changes]}
            for cell in self.cells
        ]
        return {
            "verdict": self.verdict,
            "exit_code": int(self.exit_code),
            "counts": self.counts,
            "sentence": self.sentence,
            "fewer_images": None if self.fewer is None else asdict(self.fewer),
            "baseline": self.baseline,
            "run": self.run,
            "alpha": self.alpha,
            "notes": list(self.notes),
            "cells": cells,
        }
