"""A run of corruptions: its cells, and the table of them and of their means."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.corruption_summary import Condition, Measured, corruption_summary
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.corruptions.perturbation import Corrupted, Stored
from robustbench_sde.suite.cells import Cell, Source
from robustbench_sde.suite.run import Run

FILE = "corruptions.csv"


def check_names(paths: Sequence[Path]) -> None:
    """Raise BenchError if two checkpoints have the same name, by which tables tell them apart."""
    stems = [path.stem for path in paths]
    for path in paths:
        if stems.count(path.stem) > 1:
            raise BenchError(f"two checkpoints are called {path.stem!r}; rename or leave out one")


def write_corruptions(
    run: Run, cells: Sequence[Cell], data: ImageDataset, reference: Path | None = None
) -> pd.DataFrame:
    """Write `corruptions.csv` of a finished run, and return it (`results.schema.CORRUPTIONS`)."""
    status = dict(zip(run.summary["cell"], run.summary["status"], strict=True))
    measured: dict[str, Measured] = {}
    for name, own in _by_name(cells).items():
        faults = [status[cell.key(data)] for cell in own if status[cell.key(data)] != "ok"]
        records = {cell: _records(run, cell, data) for cell in own if status[cell.key(data)] == "ok"}
        measured[name] = Measured(
            clean=next((records.get(cell) for cell in own if isinstance(cell.perturbation, Clean)), None),
            corrupted={
                _condition(cell): records.get(cell)
                for cell in own
                if not isinstance(cell.perturbation, Clean)
            },
            status=faults[0] if faults else "ok",
        )
    summary = corruption_summary(measured, None if reference is None else reference.stem)
    run.folder.write_text(FILE, summary.to_csv(index=False))
    return summary


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


def _records(run: Run, cell: Cell, data: ImageDataset) -> pd.DataFrame:
    return run.folder.read_records(cell.key(data))


def _condition(cell: Cell) -> Condition:
    described = cell.perturbation.describe()
    severity = float(described["severity"])
    return Condition(str(described["perturbation"]), None if math.isnan(severity) else int(severity))
