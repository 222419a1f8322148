"""Engines do the work of a run: cells in, results out. `run_cells` stores and reports them."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.cell import CellResult
from robustbench_sde.models.compute import Compute
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell, CertifyCell
from robustbench_sde.runs.work import Work
from robustbench_sde.runs.worker import Phase, Worker

#: Cells with their results; whoever stops asking closes it, so that an engine can stop what it has started.
Results = Generator[tuple[Cell, CellResult], None, None]


class Engine(Protocol):
    """Evaluates the cells of a run, on this machine or others."""

    @property
    def halved(self) -> Mapping[Phase, int]:
        """Rows of a batch that fit into memory, by phase, if fewer than asked for."""

    def run(self, work: Work, compute: Compute, bars: Bars) -> Results:
        """Yield each cell with its result as soon as it is known, in any order.

        A cell that fails has a result, too; an exception ends the run. The caller counts cells in
        `bars.cells`; `bars.images` belongs to the engine.
        """

    def certify(self, parts: Sequence[CertifyCell], data: ImageDataset, compute: Compute) -> Results:
        """Yield each part of certified cells with its certificates as soon as they are known, in any order.

        A part that fails has a result, too; an exception ends the run.
        """

    def describe(self) -> dict[str, Any]:
        """Describe the engine for the manifest."""


class LocalEngine:
    """Evaluates one cell after the other, in this process."""

    def __init__(self, *, keep_images: bool = False) -> None:
        self._keep_images = keep_images
        self.halved: dict[Phase, int] = {}

    def run(self, work: Work, compute: Compute, bars: Bars) -> Results:
        worker = Worker(work.data, compute, bars.images, self.halved, keep_images=self._keep_images)
        for cell in work.cells:
            bars.cells.advance(0, note=cell.title)
            yield cell, worker.attempt(cell)

    def certify(self, parts: Sequence[CertifyCell], data: ImageDataset, compute: Compute) -> Results:
        worker = Worker(data, compute, halved=self.halved)
        for cell in parts:
            assert cell.part is not None  # whole cells are cut before
            worker.turn_to(data.select(data.ids[slice(*cell.part)]))
            yield cell, worker.attempt(cell)

    def describe(self) -> dict[str, Any]:
        return {"engine": "local"}
