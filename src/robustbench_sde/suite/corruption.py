"""A run of corruptions: its cells, and the table of them and of their means."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.corruption_summary import Condition, Measured, corruption_summary
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.suite.cells import Cell
from robustbench_sde.suite.local import Run

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
    for source in {cell.source: 0 for cell in cells}:
        own = [cell for cell in cells if cell.source == source]
        faults = [status[cell.key(data)] for cell in own if status[cell.key(data)] != "ok"]
        records = {cell: _records(run, cell, data) for cell in own if status[cell.key(data)] == "ok"}
        measured[source.path.stem] = Measured(
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


def _records(run: Run, cell: Cell, data: ImageDataset) -> pd.DataFrame:
    return run.folder.read_records(cell.key(data), cell.label)


def _condition(cell: Cell) -> Condition:
    described = cell.perturbation.describe()
    severity = float(described["severity"])
    return Condition(str(described["perturbation"]), None if math.isnan(severity) else int(severity))
