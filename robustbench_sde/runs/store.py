"""Cells that need not be run: stored in this run folder, or by an earlier run beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sde.data import ImageDataset
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.worker import Outcome
from robustbench_sde.storage.images import ImageFormat, PerturbedImages
from robustbench_sde.storage.run_folder import RunFolder, safe_name


@dataclass(frozen=True)
class StoredCells:
    """Which cells are where."""

    #: summary rows of the cells in the run folder
    own: dict[Cell, dict[str, Any]]
    #: for cells that are not, the runs that may have them
    elsewhere: dict[Cell, list[RunFolder]]

    @classmethod
    def find(
        cls, cells: Sequence[Cell], data: ImageDataset, folder: RunFolder, *, cache: bool
    ) -> "StoredCells":
        """Look for cells in `folder`, and with `cache` in the folders beside it.

        Raises:
            BenchError: a cell in `folder` is damaged.
        """
        keys = {cell: cell.key(data) for cell in cells}
        present = folder.stored()
        own = {}
        for cell, key in keys.items():
            row = folder.read_cell(key) if key in present else None
            if row is not None:
                own[cell] = row | named(cell, data)
        beside = _beside(folder) if cache else {}
        missing = {cell: key for cell, key in keys.items() if cell not in own}
        return cls(own, {cell: beside[key] for cell, key in missing.items() if key in beside})

    def adopt(self, data: ImageDataset, folder: RunFolder) -> dict[Cell, dict[str, Any]]:
        """Copy into `folder` what is whole elsewhere; the rows of these cells."""
        adopted = {}
        for cell, runs in self.elsewhere.items():
            rows = (folder.adopt_cell(cell.key(data), run) for run in runs)
            row = next((row for row in rows if row is not None), None)
            if row is not None:
                adopted[cell] = row | named(cell, data)
        return adopted


def named(cell: Cell, data: ImageDataset) -> dict[str, str]:
    """What a row calls its checkpoint and data: names are no part of a cell's key and may have changed."""
    return {"checkpoint": cell.source.path.stem, "dataset": data.name}


def _beside(folder: RunFolder) -> dict[str, list[RunFolder]]:
    """The other run folders with the same parent, by the cells that they have."""
    found: dict[str, list[RunFolder]] = {}
    for path in sorted(folder.path.parent.glob("*/records/*-*.parquet")):
        run = path.parent.parent
        if run.name != folder.path.name:
            found.setdefault(path.stem.rpartition("-")[2], []).append(RunFolder(run))
    return found


def has_images(cell: Cell, data: ImageDataset, folder: RunFolder, kind: ImageFormat) -> bool:
    """Whether the images of a cell are there, or it has none of its own."""
    return isinstance(cell.perturbation, Clean | Control) or _path(cell, data, folder, kind).exists()


def write_images(outcome: Outcome, data: ImageDataset, folder: RunFolder, kind: ImageFormat) -> None:
    """Write `images/<cell>.<kind>`, unless the cell has come to nothing or has no images of its own."""
    cell = outcome.cell
    if outcome.images is None or isinstance(cell.perturbation, Clean | Control):
        return
    described = cell.perturbation.describe()
    budget = cell.perturbation.budget
    about = {
        "dataset": data.name,
        "split": data.split,
        "fingerprint": data.fingerprint,
        "checkpoint": cell.source.path.stem,
        "perturbation": described["perturbation"],
        "norm": described["norm"],
        "eps": None if budget is None else budget.eps,
    }
    images = PerturbedImages(outcome.images.numpy(), data.ids.numpy(), data.labels.numpy(), about)
    images.write(_path(cell, data, folder, kind))


def _path(cell: Cell, data: ImageDataset, folder: RunFolder, kind: ImageFormat) -> Path:
    return folder.path / "images" / f"{safe_name(cell.label)}-{cell.key(data)}.{kind}"
