"""Parcels of cells for a machine that has none of this machine's files, and what is done with them there."""

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
from robustbench_sde.evaluation.cell import CellResult
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.corruptions.perturbation import Stored
from robustbench_sde.runs.cells import NUMERIC_VERSION, Cell
from robustbench_sde.runs.worker import Phase, Worker
from robustbench_sde.sde.philox import NOISE_VERSION
from robustbench_sde.version import __version__

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PackedImages:
    """An `ImageDataset` as arrays, which workers of one machine can share."""

    images: _Bytes
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    #: name of the data set
    name: str
    split: str
    class_names: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(cls, data: ImageDataset) -> "PackedImages":
        """Pack all images of `data`."""
        arrays = (data.images.numpy(), data.labels.numpy(), data.ids.numpy())
        return cls(*arrays, data.name, data.split, data.class_names, data.fingerprint)

    def unpack(self, piece: slice) -> ImageDataset:
        """Copy some of the images into a data set."""
        images, labels, ids = (
            torch.from_numpy(array[piece].copy()) for array in (self.images, self.labels, self.ids)
        )
        return ImageDataset(self.name, self.split, images, labels, ids, self.class_names, self.fingerprint)


@dataclass(frozen=True)
class Report:
    """The answer to a parcel: results of its cells on the piece, and the rows that fitted into memory."""

    results: list[CellResult]
    halved: dict[Phase, int]


@dataclass(frozen=True)
class Parcel:
    """Cells to be run on a piece of the images; images and bytes of files are sent beside it."""

    cells: tuple[Cell, ...]
    piece: slice
    #: paths of the files, as the cells name them
    paths: tuple[Path, ...]
    compute: Compute
    threads: int
    #: rows of a batch, by phase, that are known to fit into memory
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
            results = [worker.attempt(_moved(cell, places)) for cell in self.cells]
        for result in results:
            for path, place in places.items():
                result.row["status"] = result.row["status"].replace(str(place), str(path))
        return Report(results, halved)


def software(cells: Iterable[Cell]) -> tuple[str, ...]:
    """List what must be equal on all machines: this package and the plug-ins of the cells, by version."""
    plugins = {cell.perturbation.provider for cell in cells} - {""}
    return f"robustbench-sde {__version__} (numbers {NUMERIC_VERSION}, noise {NOISE_VERSION})", *sorted(
        plugins
    )


def files_of(cells: Iterable[Cell]) -> tuple[Path, ...]:
    """List the files that cells read while they run, each once."""
    files = [path for cell in cells for path in (cell.source.path, *cell.perturbation.files())]
    return tuple(dict.fromkeys(path for path in files if path is not None))


def with_images_in_memory(cell: Cell, ids: Tensor) -> Cell:
    """Return the cell with the images of a published set that it reads, for these ids, in memory."""
    if isinstance(cell.perturbation, Stored):
        return replace(cell, perturbation=cell.perturbation.with_images_in_memory(ids))
    return cell


def _write(files: Mapping[Path, _Bytes], folder: Path) -> dict[Path, Path]:
    """Write files into `folder`, those of one folder together, and return their new places."""
    parents = list(dict.fromkeys(path.parent for path in files))
    places = {}
    for path, content in files.items():
        place = folder / str(parents.index(path.parent)) / path.name
        place.parent.mkdir(exist_ok=True)
        content.tofile(place)
        places[path] = place
    return places


def _moved(cell: Cell, places: Mapping[Path, Path]) -> Cell:
    path = cell.source.path
    source = cell.source if path is None else replace(cell.source, path=places[path])
    return replace(cell, source=source, perturbation=cell.perturbation.moved(places))
