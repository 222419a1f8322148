"""One side of a comparison: cells with their settings and the outcome of every image."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, ValidationError

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.certificate_report import (
    CERTIFIED_NAME,
    CertificateReport,
    read_reports,
)
from robustbench_sde.evaluation.numbers import certified_at
from robustbench_sde.models.strict import Spec, first_problem
from robustbench_sde.runs.checked import check_listed, read_checked_records
from robustbench_sde.sde.philox import NOISE_VERSION
from robustbench_sde.storage.cell_file import Values
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.texts import short_budget

#: Text of a name or a description: one line without control characters, on which terminals and CI logs act.
Line = Annotated[str, Field(max_length=20_000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]

#: columns of the records (`RECORDS`) that a comparison needs
Outcomes = Mapping[str, Values] | pd.DataFrame
OUTCOMES = ("image_id", "correct", "share_correct", "tries_right", "tries_split")


class MeasuredRow(Spec):
    """Columns of the summary that say what a cell is; None for NaN in the summary."""

    checkpoint: Line
    noise: Line
    sigma: float | None
    perturbation: Line
    norm: Line
    eps: float | None
    severity: float | None
    score_draws: int = Field(ge=1, le=65_535)
    rule: Line
    seed: int
    #: solver and its steps; empty and 0 for a network without one of our solvers
    solver: Line = ""
    solver_steps: int = 0


class Facts(MeasuredRow):
    """Settings of a cell. Two cells that agree in all but the seed are the same measurement."""

    dataset: Line
    #: hash of the pixels and labels of the whole split
    fingerprint: Line
    #: perturbation with all its parameters
    settings: Line
    #: draws that answer one submission
    try_draws: int = Field(default=1, ge=1, le=65_535)
    #: number format of the network: fp32, tf32 or bf16
    precision: Line = "fp32"
    #: version of the noise definition (`sde.philox`) that the draws follow; 0 without noise
    noise_definition: int = Field(default=0, ge=0)

    @property
    def answers(self) -> int:
        """Number of submissions of an image that its score draws answer."""
        if self.noise_definition < 2 or self.try_draws == 1:
            return self.score_draws // self.try_draws
        size = self.try_draws + self.try_draws % 2  # blocks begin at even draws
        return (self.score_draws + self.try_draws % 2) // size

    @property
    def label(self) -> str:
        """Name in tables, policies and CI: ``digits-ode pgd linf eps=8/255``, ``digits-ode fog 3``."""
        budget = "" if self.eps is None else f"eps={short_budget(self.eps)}"
        level = "" if self.severity is None else f"{self.severity:g}"
        return " ".join(
            part for part in (self.checkpoint, self.perturbation, self.norm, budget, level) if part
        )


@dataclass(frozen=True, eq=False)
class ComparedCell:
    """Settings of a cell, and the outcome of each of its images."""

    facts: Facts
    #: (images,) int64: index of each image in its split
    ids: npt.NDArray[np.int64]
    #: (images,) bool: right by the decision rule
    correct: npt.NDArray[np.bool_]
    #: (images,) uint16: how many of the score draws, each alone, are right
    right_draws: npt.NDArray[np.uint16]
    #: status as in the summary: ok, or the reason why the cell must not be used
    status: str = "ok"
    #: parameters of the perturbation by name; empty in files of versions that did not write them
    parameters: Mapping[str, str] = field(default_factory=dict)
    #: (images,) uint16: how many of the submissions that the draws answer (`Facts.answers`) are right; None:
    #: those of single draws, `right_draws`
    right_answers: npt.NDArray[np.uint16] | None = None
    #: (images,) uint16: how many pairs of answers have exactly one right; None: answers are independent
    split: npt.NDArray[np.uint16] | None = None

    @property
    def answered_rightly(self) -> npt.NDArray[np.uint16]:
        """Number of right answers of each image, of `Facts.answers`: (images,)."""
        return self.right_draws if self.right_answers is None else self.right_answers

    def differing(self, other: "ComparedCell") -> tuple[str, str]:
        """Say the settings that two perturbations do not share; all of them if parameters are unknown."""
        if not (self.parameters and other.parameters):
            return self.facts.settings, other.facts.settings
        names = [
            name
            for name in {**self.parameters, **other.parameters}
            if self.parameters.get(name) != other.parameters.get(name)
        ]
        mine, theirs = (
            ", ".join(f"{name}={cell.parameters[name]}" for name in names if name in cell.parameters)
            for cell in (self, other)
        )
        return mine, theirs


@dataclass(frozen=True)
class Side:
    """Cells of a run or a baseline."""

    name: str
    cells: tuple[ComparedCell, ...]
    #: origin of the numbers: version, git_revision, command
    made: dict[str, str] = field(default_factory=dict)
    #: False for a run that was interrupted
    complete: bool = True


def read_run(path: Path) -> Side:
    """Read the cells of a run folder, without the eps = 0 control, which equals the clean cell.

    Raises:
        BenchError: `path` is not the folder of a run, or a file of it is damaged.
    """
    folder = RunFolder(path)
    summary, manifest = folder.read_summary(), folder.read_manifest()
    try:
        settings = {entry["cell"]: str(entry["perturbation"]) for entry in manifest["cells"]}
        parameters = {
            entry["cell"]: {str(name): _line(str(value)) for name, value in entry["parameters"].items()}
            for entry in manifest["cells"]
            if "parameters" in entry
        }
        precisions = {entry["cell"]: str(entry.get("precision", "fp32")) for entry in manifest["cells"]}
        definitions = {entry["cell"]: int(entry.get("noise_definition", 1)) for entry in manifest["cells"]}
        version = manifest["versions"]["robustbench-sde"]
    except (TypeError, KeyError, AttributeError) as error:
        raise BenchError(
            f"{path / 'manifest.yaml'} has been changed ({error}); the command of the run writes it anew"
        ) from error
    check_listed(folder, summary, manifest["cells"])
    cells = []
    for row in summary[summary["perturbation"] != "control"].to_dict("records"):
        records: Outcomes | None = None
        if row["status"] == "ok":
            records = folder.read_unchanged_columns(row["cell"], OUTCOMES)
            records = read_checked_records(folder, row) if records is None else records
        precision = precisions.get(row["cell"], "fp32")
        definition = definitions.get(row["cell"], 1)
        cell = measured(row, records, settings.get(row["cell"], ""), precision, definition)
        cells.append(replace(cell, parameters=parameters.get(row["cell"], {})))
    cells += [cell for report in read_reports(path) for cell in _certified(report)]
    origin = {
        "version": version,
        "git_revision": manifest.get("git_revision"),
        "command": manifest["command"],
    }
    made = {name: _line(str(value or "")) for name, value in origin.items()}
    return Side(str(path), tuple(cells), made, manifest["complete"])


def _certified(report: CertificateReport) -> Iterator[ComparedCell]:
    """Make a cell for each radius of a report: an image is right if it is right and certified beyond it."""
    parameters = {name: str(getattr(report, name)) for name in ("draws", "select_draws", "alpha", "early")}
    settings = ", ".join(f"{name}={value}" for name, value in parameters.items())
    records = report.records
    for bracket in report.brackets:
        facts = Facts(
            checkpoint=report.checkpoint,
            noise=report.noise,
            sigma=report.sigma,
            perturbation=CERTIFIED_NAME,
            norm="l2",
            eps=bracket.radius,
            severity=None,
            score_draws=1,  # whatever was drawn, an image has a certificate or none
            rule=report.rule,
            seed=report.seed,
            solver=report.solver,
            solver_steps=report.solver_steps,
            dataset=report.dataset,
            fingerprint=report.fingerprint,
            settings=f"Certificate({settings})",
        )
        right = certified_at(records, bracket.radius).to_numpy()
        yield ComparedCell(
            facts,
            records["image_id"].to_numpy(),
            right,
            right.astype(np.uint16),
            _line(report.status),
            parameters,
        )


def measured(
    row: Mapping[Any, Any],
    records: Outcomes | None,
    settings: str,
    precision: str = "fp32",
    noise_definition: int = NOISE_VERSION,
) -> ComparedCell:
    """Make a cell from its row of the summary and its records.

    Args:
        row: columns as in `SUMMARY`.
        records: columns `OUTCOMES`, and perhaps others; None if the status of the row is not ok.
        settings: perturbation with all its parameters.
        precision: number format of the network.
        noise_definition: version of the noise definition of a random network.

    Raises:
        BenchError: a value of the row is not one that a run writes.
    """
    given = {
        "settings": settings,
        "precision": precision,
        "noise_definition": 0 if row["noise"] == "none" else noise_definition,
    }
    named = {name: row[name] for name in Facts.model_fields if name not in given}
    known = {name: None if _is_nan(value) else value for name, value in named.items()}
    try:
        facts = Facts.model_validate(known | given)
    except ValidationError as error:
        raise first_problem(error, "summary") from error
    if records is None:
        none = np.empty(0, np.int64)
        return ComparedCell(facts, none, none.astype(bool), none.astype(np.uint16), _line(row["status"]))
    ids, correct, share, right, split = (np.asarray(records[name]) for name in OUTCOMES)
    return ComparedCell(
        facts,
        ids,
        correct,
        np.rint(share * facts.score_draws).astype(np.uint16),
        right_answers=None if facts.try_draws == 1 else right.astype(np.uint16),
        split=None if np.isnan(split).any() else split.astype(np.uint16),
    )


def _line(text: str) -> str:
    """Replace control characters, on which a terminal or a CI log would act."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:1000]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
