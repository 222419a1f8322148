"""The work of a run: distinct cells, the images they are evaluated on, and the key of each cell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from robustbench_sde.data import ImageDataset
from robustbench_sde.runs.cells import Cell, CertifyCell
from robustbench_sde.runs.sources import Source


@dataclass(frozen=True, eq=False)
class Work:
    """Distinct cells on images; the key of a cell is computed once, when the work is made."""

    data: ImageDataset
    #: key of each cell (`Cell.key`), in the order of the tables
    keys: Mapping[Cell, str]
    #: smoothed classifiers whose images are certified as well
    certified: tuple[CertifyCell, ...] = ()

    @classmethod
    def of(cls, cells: Iterable[Cell], data: ImageDataset, certified: Iterable[CertifyCell] = ()) -> "Work":
        """Collect cells, equal ones once, in their order.

        Raises:
            BenchError: a perturbation does not fit a model.
        """
        cells = tuple(dict.fromkeys(cells))
        for cell in cells:
            cell.perturbation.check_classes(cell.source.classes)
        keys = {cell: cell.key(data) for cell in cells}
        return cls(data, keys, tuple(dict.fromkeys(certified)))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, in order."""
        return tuple(self.keys)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The classifiers of the cells, each once, in order."""
        return tuple(dict.fromkeys(cell.source for cell in (*self.keys, *self.certified)))

    def without(self, done: Iterable[Cell]) -> "Work":
        """Return the work that is left after these cells."""
        left = set(done)
        return Work(
            self.data, {cell: key for cell, key in self.keys.items() if cell not in left}, self.certified
        )
