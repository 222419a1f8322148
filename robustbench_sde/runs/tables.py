"""A run of corruptions: its cells, and the table of them and of their means."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.corruption_summary import (
    CorruptionLevel,
    CorruptionRecords,
    corruption_summary,
)
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.corruptions.perturbation import Corrupted, Stored
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source


def check_names(paths: Sequence[Path]) -> None:
    """Raise BenchError if two checkpoints have the same name, by which tables tell them apart."""
    stems = [path.stem for path in paths]
    for path in paths:
        if stems.count(path.stem) > 1:
            raise BenchError(f"two checkpoints are called {path.stem!r}; rename or leave out one")


def corruption_table(
    cells: Sequence[Cell],
    status: Mapping[Cell, str],
    records_of: Callable[[Cell], pd.DataFrame],
    reference: str | None = None,
) -> pd.DataFrame:
    """Accuracies by corruption and severity, and their means (`results.schema.CORRUPTIONS`).

    Args:
        cells: clean ones, and corrupted ones.
        status: of each cell.
        records_of: gives the records of a cell whose status is ok.
        reference: name of the checkpoint whose errors mCE is relative to; None: no mCE.
    """
    measured: dict[str, CorruptionRecords] = {}
    for name, own in _by_name(cells).items():
        faults = [status[cell] for cell in own if status[cell] != "ok"]
        records = {cell: records_of(cell) for cell in own if status[cell] == "ok"}
        measured[name] = CorruptionRecords(
            clean=next((records.get(cell) for cell in own if isinstance(cell.perturbation, Clean)), None),
            corrupted={
                _condition(cell): records.get(cell)
                for cell in own
                if not isinstance(cell.perturbation, Clean)
            },
            status=faults[0] if faults else "ok",
        )
    return corruption_summary(measured, reference)


def _by_name(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Clean and corrupted cells by checkpoint and, where they have several, by noise, solver and scoring."""
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
        rivals = [facts[other] for other in corrupted if other[0].path.stem == key[0].path.stem]
        differing = [fact for fact in facts[key] if len({rival[fact] for rival in rivals}) > 1]
        named[" ".join([key[0].path.stem, *(f"{fact}={facts[key][fact]}" for fact in differing)])] = own
    return named


def _condition(cell: Cell) -> CorruptionLevel:
    described = cell.perturbation.describe()
    severity = float(described["severity"])
    return CorruptionLevel(str(described["perturbation"]), None if math.isnan(severity) else int(severity))
