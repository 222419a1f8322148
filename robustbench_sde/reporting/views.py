"""Define the studies of Liu et al. (CVPR 2020): each is a shipped suite and a view of its summary.

The cells of a study are in ``suites/study/<name>.yaml``; docs/studies.md says which claim it tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.study_measures import with_change, with_overstated
from robustbench_sde.runs.words import interval, perturbation_text
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import TableRow


@dataclass(frozen=True)
class Measure:
    """Number of the summary, and how a study shows it."""

    #: column of the summary
    name: str
    #: label on an axis
    label: str
    #: heading of a table column
    heading: str
    #: prefix of the columns `<ends>_low` and `<ends>_high` with its 95 % interval; empty: no interval
    ends: str
    #: whether it is shown in percent
    share: bool = True
    #: order of leaving it out in a narrow terminal, the highest first; 0: never
    spare: int = 0

    def value_and_ends(self, rows: pd.DataFrame) -> "list[pd.Series[float]]":
        """Return value and ends of the interval for an axis; without interval the value three times."""
        scale = 100 if self.share and self.ends else 1
        return [scale * rows[name] for name in self._columns]

    def text(self, row: TableRow) -> str:
        """Format the value for a table cell; empty if it is NaN."""
        numbers = [row[name] for name in self._columns]
        if not self.ends:
            return f"{numbers[0]:.3f}"
        if self.share or np.isnan(numbers[0]):
            return interval(*numbers)
        return "{:.3f} ({:.3f}-{:.3f})".format(*numbers)

    @property
    def _columns(self) -> tuple[str, str, str]:
        return (self.name, f"{self.ends}_low", f"{self.ends}_high") if self.ends else (self.name,) * 3


ACCURACY = Measure("accuracy", "accuracy, %", "accuracy (95 %)", "accuracy")
SINGLE_DRAW = Measure(
    "single_draw_accuracy", "accuracy of one draw, %", "single draw (95 %)", "single_draw", spare=1
)
CALIBRATION = Measure("ece", "expected calibration error", "ECE", "")
CHANGE = Measure("change", "change of the label's probability, %", "change of p (95 %)", "change")
LOGIT_CHANGE = Measure(
    "logit_change", "change of the label's logit", "change of logit (95 %)", "logit_change", share=False
)
OVERSTATED = Measure("overstated", "more than honest accuracy, %", "overstated (95 %)", "overstated")


@dataclass(frozen=True)
class View:
    """Layout of the summary of a study."""

    #: column by which figures have panels and tables have sections
    panel: Callable[[TableRow], str]
    #: column by which a panel has lines
    line: Callable[[TableRow], str]
    #: column along a line, which `heading` names
    across: Callable[[TableRow], float | str]
    heading: str
    kind: Literal["lines", "points", "heat map"] = "lines"
    measures: tuple[Measure, ...] = (ACCURACY,)
    #: whether the axis is logarithmic
    log: bool = False
    #: headings of panels and lines in tables
    panel_name: str = "perturbation"
    line_name: str = "checkpoint"
    #: function that adds the measures that need records
    derive: Callable[[pd.DataFrame, RunFolder], pd.DataFrame] = lambda summary, folder: summary


def _checkpoint(row: TableRow) -> str:
    return str(row["checkpoint"])


def _perturbation(row: TableRow) -> str:
    return perturbation_text(dict(row))


def _attack_alone(row: TableRow) -> str:
    return f"{row['perturbation']} {row['norm']}"


def _attack_solver(row: TableRow) -> str:
    name = str(row["perturbation"])
    return "clean" if name == "clean" else f"attack on {name.partition(':')[2]}"


def _solver(row: TableRow) -> str:
    return str(row["solver"])


#: Views by study; `corruption` has tables and a figure of its own.
VIEWS: Mapping[str, View] = {
    "clean": View(
        panel=lambda row: "clean",
        line=_checkpoint,
        # keyed: noise on the image alone
        across=lambda row: "off" if row["noise"] in ("none", "keyed") else "as trained",
        heading="noise at test time",
        kind="points",
        measures=(ACCURACY, SINGLE_DRAW),
    ),
    "budget": View(
        panel=_attack_alone,
        line=_checkpoint,
        across=lambda row: float(row["eps"]),
        heading="eps",
        measures=(ACCURACY, SINGLE_DRAW, OVERSTATED),
        derive=with_overstated,
    ),
    "draws": View(
        panel=_perturbation,
        line=_checkpoint,
        across=lambda row: int(row["score_draws"]),
        heading="score draws",
        measures=(ACCURACY, CALIBRATION),
        log=True,
    ),
    "grid": View(
        panel=lambda row: "clean",
        line=_checkpoint,
        across=lambda row: int(row["solver_steps"]),
        heading="steps of the solver",
        measures=(ACCURACY, CHANGE, LOGIT_CHANGE),
        log=True,
        derive=with_change,
    ),
    "sigma": View(
        panel=_perturbation,
        line=lambda row: f"{row['checkpoint']}, trained with {row['train_sigma']:g}",
        across=lambda row: "as trained" if np.isnan(row["sigma"]) else float(row["sigma"]),
        heading="sigma at test time",
        kind="heat map",
    ),
    "solver": View(
        panel=_checkpoint,
        line=_attack_solver,
        across=_solver,
        heading="scored on",
        kind="heat map",
        panel_name="checkpoint",
        line_name="attack",
    ),
}
