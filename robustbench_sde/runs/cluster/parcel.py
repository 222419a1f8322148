"""Cells on their way to a machine that has none of this machine's files, and what is done there."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.corruptions.perturbation import Stored
from robustbench_sde.runs.cells import NUMERIC_VERSION, Cell
from robustbench_sde.runs.worker import Outcome, Phase, Worker
from robustbench_sde.version import __version__

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PackedImages:
    """An `ImageDataset` as arrays, which need not be copied to be looked at."""

    images: _Bytes
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    #: as in the data set
    name: str
    split: str
    class_names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(cls, data: ImageDataset) -> "PackedImages":
        """All images of `data`."""
        arrays = (data.images.numpy(), data.labels.numpy(), data.ids.numpy())
        return cls(*arrays, data.name, data.split, data.class_names, data.fingerprint)

    def unpack(self, piece: slice) -> ImageDataset:
        """Some of the images, copied."""
        images, labels, ids = (
            torch.from_numpy(array[piece].copy()) for array in (self.images, self.labels, self.ids)
        )
        return ImageDataset(self.name, self.split, images, labels, ids, self.class_names, self.fingerprint)


@dataclass(frozen=True)
class Report:
    """What comes back: the outcomes of the cells on the piece, and the rows that fitted into memory."""

    outcomes: list[Outcome]
    halved: dict[Phase, int]


@dataclass(frozen=True)
class Parcel:
    """Cells to be run on a piece of the images; the images and the bytes of the files come beside it."""

    cells: tuple[Cell, ...]
    piece: slice
    #: the files, as the cells name them
    paths: tuple[Path, ...]
    compute: Compute
    threads: int
    #: rows that are known to fit into memory
    halved: Mapping[Phase, int]
    #: `software` of the machine that has packed it
    software: tuple[str, ...]

    def run(self, data: PackedImages, *files: _Bytes) -> Report:
        """Run the cells here.

        Raises:
            ImportError: this is another version of the package, whose numbers may be others.
        """
        here = software(self.cells)
        if self.software != here:
            raise ImportError(f"it has {', '.join(here)} and not {', '.join(self.software)}")
        torch.set_num_threads(self.threads)
        compute = self.compute
        if compute.device == "cpu":
            compute = replace(compute, memory_share=min(1.0, self.threads / (os.cpu_count() or 1)))
        halved = dict(self.halved)
        with tempfile.TemporaryDirectory(prefix="sde-bench-") as folder:
            places = _write(dict(zip(self.paths, files, strict=True)), Path(folder))
            worker = Worker(data.unpack(self.piece), compute, halved=halved)
            outcomes = [worker.attempt(_moved(cell, places)) for cell in self.cells]
        for outcome in outcomes:
            for path, place in places.items():
                outcome.row["status"] = outcome.row["status"].replace(str(place), str(path))
        return Report(outcomes, halved)


def software(cells: Iterable[Cell]) -> tuple[str, ...]:
    """What must be the same on all machines: this package, and the plug-ins of the cells, by version."""
    plugins = {cell.perturbation.provider for cell in cells} - {""}
    return f"robustbench-sde {__version__} (numbers {NUMERIC_VERSION})", *sorted(plugins)


def files_of(cells: Iterable[Cell]) -> tuple[Path, ...]:
    """The files that cells read while they run."""
    return tuple(dict.fromkeys(p for cell in cells for p in (cell.source.path, *cell.perturbation.files())))


def loaded(cell: Cell, ids: Tensor) -> Cell:
    """The same cell; the images of a published set that it reads, for these ids, come along in memory."""
    if isinstance(cell.perturbation, Stored):
        return replace(cell, perturbation=cell.perturbation.loaded(ids))
    return cell


def _write(files: Mapping[Path, _Bytes], folder: Path) -> dict[Path, Path]:
    """Put files into `folder`, those of one folder together; where each of them is now."""
    parents = list(dict.fromkeys(path.parent for path in files))
    places = {}
    for path, content in files.items():
        place = folder / str(parents.index(path.parent)) / path.name
        place.parent.mkdir(exist_ok=True)
        content.tofile(place)
        places[path] = place
    return places


def _moved(cell: Cell, places: Mapping[Path, Path]) -> Cell:
    source = replace(cell.source, path=places[cell.source.path])
    return replace(cell, source=source, perturbation=cell.perturbation.moved(places))
