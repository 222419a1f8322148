"""Cells cut into pieces that different machines may run, and put together again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.cell import numbers
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.worker import Outcome, Phase, nothing
from robustbench_sde.storage.examples import EXAMPLES, Examples


def groups(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Cells that one worker runs together, in the order of their first.

    Scorings of the same images, so that these are made once; and the control with the clean cells that it
    must equal to the last bit, which two kinds of processors do not promise.
    """
    found: dict[object, list[Cell]] = {}
    for cell in cells:
        made = None if isinstance(cell.perturbation, Clean | Control) else cell.perturbation
        found.setdefault((cell.source, cell.settings.seed, made), []).append(cell)
    return [tuple(group) for group in found.values()]


def pieces(group: Sequence[Cell], images: int, wanted: int) -> list[slice]:
    """Cut `images` images into pieces of `wanted`, rounded up so that no batch of any of the cells is cut.

    Every batch is then the one of an undivided cell, and so is every number, to the last bit.
    """
    batches = []
    for cell in group:
        stochastic = cell.source.stochastic
        batches.append(cell.perturbation.images_per_batch(cell.settings.rows, stochastic))
        batches.append(cell.settings.images_per_batch(cell.perturbation.scored_at_random(stochastic)))
    whole = math.lcm(*batches)
    size = whole * math.ceil(wanted / whole)
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


@dataclass(eq=False)
class Job:
    """Cells that are run together, piece by piece."""

    cells: tuple[Cell, ...]
    pieces: list[slice]
    _parts: dict[int, Sequence[Outcome]] = field(default_factory=dict)

    def accept(self, index: int, outcomes: Sequence[Outcome], data: ImageDataset) -> list[Outcome]:
        """Take the outcomes of one piece; those of the cells, once all pieces are there."""
        self._parts[index] = outcomes
        if len(self._parts) < len(self.pieces):
            return []
        parts = [self._parts[index] for index in range(len(self.pieces))]
        by_cell = zip(self.cells, zip(*parts, strict=True), strict=True)
        return [_merged(cell, own, data) for cell, own in by_cell]


@dataclass(eq=False)
class Shard:
    """One piece of a job."""

    job: Job
    index: int
    #: rows that the last attempt began with
    fitting: dict[Phase, int] = field(default_factory=dict)
    #: attempts that ended with the death of their worker
    lost: int = 0

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.job.cells

    @property
    def piece(self) -> slice:
        return self.job.pieces[self.index]

    @property
    def images(self) -> int:
        """Images on the progress bar."""
        piece = self.piece
        return len(range(piece.start, piece.stop)) * len(self.cells)

    @property
    def label(self) -> str:
        return self.cells[0].label

    def come_to(self, outcomes: Sequence[Outcome], data: ImageDataset) -> list[Outcome]:
        """The outcomes of its cells, if it was the last piece of its job."""
        return self.job.accept(self.index, outcomes, data)

    def come_to_nothing(self, status: str, data: ImageDataset) -> list[Outcome]:
        """As `come_to`, for a piece that could not be run."""
        return self.come_to([nothing(cell, data, status) for cell in self.cells], data)


def _merged(cell: Cell, parts: Sequence[Outcome], data: ImageDataset) -> Outcome:
    """The outcome of a cell from those of its pieces, in their order; the first that failed decides."""
    failed = next((part for part in parts if part.records is None), None)
    if failed is not None:
        return Outcome(cell, failed.row | {"images": len(data)})
    records = pd.concat([part.records for part in parts], ignore_index=True)
    seconds = sum(float(part.row["seconds"]) for part in parts)
    row = parts[0].row | numbers(records, cell.perturbation) | {"seconds": seconds}
    return Outcome(cell, row, records, _first([part.examples for part in parts if part.examples]))


def _first(parts: Sequence[Examples]) -> Examples:
    def first(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])[:EXAMPLES]

    return Examples(first("ids"), first("labels"), first("clean"), first("perturbed"))
