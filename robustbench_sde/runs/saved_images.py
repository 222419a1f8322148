"""All perturbed images of a run, in files that `sde-bench score` and anybody else can read."""

from pathlib import Path

from robustbench_sde.data import ImageDataset
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.worker import Outcome
from robustbench_sde.storage.images import ImageFormat, PerturbedImages
from robustbench_sde.storage.run_folder import RunFolder, safe_name


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
