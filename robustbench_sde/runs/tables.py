"""The tables of a run: its summary for people, curves of minimal-norm attacks, and corruptions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from robustbench_sde.evaluation.corruption_summary import (
    CorruptionLevel,
    CorruptionRecords,
    corruption_summary,
)
from robustbench_sde.evaluation.distances import accuracy_by_distance
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.perturbations.corruptions.perturbation import Corrupted, Stored
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.parameters import tell_apart
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.words import (
    markdown,
    markdown_text,
    most_draws,
    name_lines,
    summary_title,
    written_columns,
)
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import DISTANCES, table
from robustbench_sde.storage.spreadsheet import csv_text


def needs_records(perturbation: Perturbation) -> bool:
    """Whether a check or a table of a run needs the records of this perturbation, beside their summary."""
    return (
        not perturbation.changes_images
        or isinstance(perturbation, Corrupted | Stored)
        or (isinstance(perturbation, Attack) and perturbation.minimal)
    )


def write_tables(
    summary: pd.DataFrame,
    cells: Sequence[Any],
    out: RunFolder,
    records_of: Callable[[str], pd.DataFrame],
) -> list[str]:
    """Write `summary.md`, and `distances.csv` if a minimal-norm attack was run; a run and its report do.

    Args:
        summary: table of the run (`SUMMARY`).
        cells: the list `cells` of its manifest, which tells attacks of one name apart.
        out: the folder to write into.
        records_of: function from the key of a cell to its records.

    Returns:
        The names of the files.

    Raises:
        BenchError: records are damaged, or the folder cannot be written.
    """
    told = tell_apart(summary, cells)
    texts = {"summary.md": summary_markdown(told)}
    curves = distance_table(told, records_of)
    if curves is not None:
        texts["distances.csv"] = csv_text(curves)
    for name, text in texts.items():
        out.write_text(name, text)
    if curves is None:
        (out.path / "distances.csv").unlink(missing_ok=True)  # of a run with other attacks
    return list(texts)


def summary_markdown(summary: pd.DataFrame) -> str:
    """Write the summary as people read it: a title and a Markdown table; markup in names is shown as text."""
    columns = written_columns(summary)
    texts = [[column.text(row) for column in columns] for row in summary.to_dict("records")]
    title = markdown_text(summary_title(summary))
    return f"{title}\n\n{markdown(pd.DataFrame(texts, columns=[column.heading for column in columns]))}"


def distance_table(summary: pd.DataFrame, records_of: Callable[[str], pd.DataFrame]) -> pd.DataFrame | None:
    """Make the accuracy curves of the minimal-norm attacks of a run (`DISTANCES`); None without such attacks.

    Args:
        summary: table of the run.
        records_of: function from the key of a cell to its records.
    """
    sound = most_draws(summary[summary["status"] == "ok"])
    minimal = sound[(sound["norm"] != "") & sound["eps"].isna()]
    if minimal.empty:
        return None
    minimal = minimal.assign(checkpoint=name_lines(summary)[minimal.index])
    parts = []
    for row in minimal.to_dict("records"):
        curve = accuracy_by_distance(records_of(row["cell"]), row["norm"])
        about = {name: row[name] for name in ("checkpoint", "perturbation", "norm", "images")}
        parts.append(curve.assign(**about))
    return table(pd.concat(parts), DISTANCES)


def corruption_table(
    cells: Sequence[Cell],
    status: Mapping[Cell, str],
    records: Mapping[Cell, pd.DataFrame],
    reference: str | None = None,
) -> pd.DataFrame | None:
    """Make the table of accuracies by corruption and severity, and of their means (`CORRUPTIONS`).

    None if no cell is corrupted.

    Args:
        cells: clean and corrupted cells; others are passed over.
        status: status of each cell, as in its row.
        records: records of the cells whose status is ok.
        reference: name of the checkpoint whose errors mCE is relative to; None: no mCE.
    """
    named = _by_name(cells)
    if not named:
        return None
    measured: dict[str, CorruptionRecords] = {}
    for name, own in named.items():
        faults = [status[cell] for cell in own if status[cell] != "ok"]
        sound = {cell: records[cell] for cell in own if status[cell] == "ok"}
        measured[name] = CorruptionRecords(
            clean=next((sound.get(cell) for cell in own if isinstance(cell.perturbation, Clean)), None),
            corrupted={
                _condition(cell): sound.get(cell) for cell in own if not isinstance(cell.perturbation, Clean)
            },
            status=faults[0] if faults else "ok",
        )
    return corruption_summary(measured, reference)


def _by_name(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Group clean and corrupted cells by checkpoint and, if it has several, by noise, solver and scoring."""
    groups: dict[tuple[Source, ScoreSettings], list[Cell]] = {}
    for cell in cells:
        if isinstance(cell.perturbation, Clean | Corrupted | Stored):
            groups.setdefault((cell.source, cell.settings), []).append(cell)
    corrupted = {
        key: own for key, own in groups.items() if not all(isinstance(c.perturbation, Clean) for c in own)
    }
    facts = {
        key: {
            "sigma": "trained" if source.sigma is None else f"{source.sigma:g}",
            "solver": source.solver or "trained",
            "steps": "trained" if source.solver_steps is None else str(source.solver_steps),
            "draws": str(settings.draws),
            "rule": settings.rule,
            "seed": str(settings.seed),
        }
        for key in corrupted
        for source, settings in [key]
    }
    named = {}
    for key, own in corrupted.items():
        rivals = [facts[other] for other in corrupted if other[0].name == key[0].name]
        differing = [fact for fact in facts[key] if len({rival[fact] for rival in rivals}) > 1]
        named[" ".join([key[0].name, *(f"{fact}={facts[key][fact]}" for fact in differing)])] = own
    return named


def _condition(cell: Cell) -> CorruptionLevel:
    described = cell.perturbation.describe()
    severity = float(described["severity"])
    return CorruptionLevel(str(described["perturbation"]), None if math.isnan(severity) else int(severity))
