"""Who does the work of a run: cells in, outcomes out. What is stored and reported is up to `run_cells`."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from robustbench_sde.data import ImageDataset
from robustbench_sde.models.compute import Compute
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.worker import Outcome, Phase, Worker

#: Closed by whoever stops asking, so that an engine can put away what it has started.
Outcomes = Generator[Outcome, None, None]


class Engine(Protocol):
    """Runs cells, somewhere."""

    @property
    def halved(self) -> Mapping[Phase, int]:
        """Rows of a batch that fit into memory, where fewer than asked for did."""

    def run(self, cells: Sequence[Cell], data: ImageDataset, compute: Compute, bars: Bars) -> Outcomes:
        """The outcome of each cell as soon as it is known, in any order.

        A cell that fails is an outcome, too; whatever is raised ends the run. The caller counts cells in
        `bars.cells`; `bars.images` belongs to the engine.
        """

    def describe(self) -> dict[str, Any]:
        """For the manifest: who has done the work."""


class LocalEngine:
    """One cell after the other, in this process."""

    def __init__(self, *, keep_images: bool = False) -> None:
        self._keep_images = keep_images
        self.halved: dict[Phase, int] = {}

    def run(self, cells: Sequence[Cell], data: ImageDataset, compute: Compute, bars: Bars) -> Outcomes:
        worker = Worker(data, compute, bars.images, self.halved, keep_images=self._keep_images)
        for cell in cells:
            bars.cells.advance(0, note=cell.label)
            yield worker.attempt(cell)

    def describe(self) -> dict[str, Any]:
        return {"engine": "local"}
