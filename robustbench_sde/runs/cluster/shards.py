"""Cells are cut into pieces that different machines may run, and joined again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch

from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.cell import CellResult
from robustbench_sde.evaluation.numbers import numbers_of, suspicion
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.worker import Phase, failed_result
from robustbench_sde.storage.examples import EXAMPLES
from robustbench_sde.storage.provenance import joined


def groups(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """Group cells that one worker runs together, in the order of their first.

    Scorings of the same images belong together, so that these are made once; and the control belongs to the
    clean cells that it must equal to the last bit, which two kinds of processors do not promise.
    """
    found: dict[object, list[Cell]] = {}
    for cell in cells:
        made = cell.perturbation if cell.perturbation.changes_images else None
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
        settings = cell.settings.at_points(cell.perturbation.random_points)
        batches.append(settings.images_per_batch(cell.perturbation.scored_at_random(stochastic)))
    whole = math.lcm(*batches)
    size = whole * math.ceil(wanted / whole)
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


@dataclass(eq=False)
class Job:
    """Cells that are run together on images, piece by piece."""

    cells: tuple[Cell, ...]
    data: ImageDataset
    pieces: list[slice]
    _parts: dict[int, Sequence[CellResult]] = field(default_factory=dict)

    def accept(self, index: int, results: Sequence[CellResult]) -> list[tuple[Cell, CellResult]]:
        """Take the results of one piece; return the cells with theirs once all pieces are there."""
        self._parts[index] = results
        if len(self._parts) < len(self.pieces):
            return []
        parts = [self._parts[index] for index in range(len(self.pieces))]
        by_cell = zip(self.cells, zip(*parts, strict=True), strict=True)
        return [(cell, _merge(own, len(self.data))) for cell, own in by_cell]


@dataclass(eq=False)
class Shard:
    """One piece of a job."""

    job: Job
    index: int
    #: rows of a batch, by phase, that the last attempt began with
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

    def finish(self, results: Sequence[CellResult]) -> list[tuple[Cell, CellResult]]:
        """Hand in the results of this piece; return those of its cells if it was the last of its job."""
        return self.job.accept(self.index, results)

    def fail(self, status: str) -> list[tuple[Cell, CellResult]]:
        """Hand in a piece that could not be run, as `finish` does; `status` says why."""
        return self.finish([failed_result(cell, self.job.data, status) for cell in self.cells])


def _merge(parts: Sequence[CellResult], images: int) -> CellResult:
    """Join the results of a cell's pieces, in their order; the first that failed decides."""
    if len(parts) == 1 and parts[0].ok:
        return parts[0]
    failed = next((part for part in parts if not part.ok), None)
    if failed is not None:
        return replace(failed, row=failed.row | {"images": images})
    records = pd.concat([part.records for part in parts], ignore_index=True)
    first = parts[0].row
    row = first | numbers_of(records, str(first["norm"]), float(first["eps"]), samples=int(first["samples"]))
    row["status"] = suspicion(row) or "ok"
    row["seconds"] = sum(float(part.row["seconds"]) for part in parts)
    return CellResult(
        row,
        records,
        torch.cat([part.images for part in parts])[:EXAMPLES],
        made_with=joined(part.made_with for part in parts),  # by several machines, perhaps
    )
