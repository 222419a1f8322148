"""Evaluates cells one after the other, and keeps what the next one may need."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import pandas as pd
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.evaluation.cell import CellResult, Made, blank_row, judge, perturb
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.memory import keep_freed_memory, rows_that_fit
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.base import Perturbation
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source
from robustbench_sde.storage.examples import EXAMPLES, Examples

Phase = Literal["perturbing", "scoring"]
PHASES: tuple[Phase, ...] = get_args(Phase)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Outcome:
    """What has become of a cell, or of a cell on a part of the images."""

    cell: Cell
    #: its row of the summary; where it has come to nothing without numbers, and `status` says why
    row: dict[str, Any]
    #: one row per image (`RECORDS`); None where it has come to nothing
    records: pd.DataFrame | None = None
    #: the first images; None as `records`
    examples: Examples | None = None
    #: (n, C, H, W) all images, where the worker was asked to keep them
    images: Tensor | None = None


class Worker:
    """One model and the images of one perturbation at a time.

    Cells that follow each other and differ only in how they are scored share their images. A batch has no
    more rows than fit into memory by a forecast; where that fails, it is halved, for perturbing and scoring
    each, and stays so.
    """

    def __init__(
        self,
        data: ImageDataset,
        compute: Compute,
        images: Progress = SILENT,
        halved: dict[Phase, int] | None = None,
        *,
        keep_images: bool = False,
    ) -> None:
        self._data = data
        self._compute = compute
        self._images = images
        self._keep_images = keep_images
        self._model: tuple[Source, RandomClassifier] | None = None
        self._fitting: dict[Phase, int] = {}
        self._made: tuple[tuple[Source, Perturbation, int], Made] | None = None
        #: rows that fit into memory, where it was found not to suffice; kept in the dict that is given
        self.halved: dict[Phase, int] = {} if halved is None else halved
        keep_freed_memory()

    def attempt(self, cell: Cell) -> Outcome:
        """Evaluate a cell; whatever goes wrong in it is its status."""
        try:
            result = self.evaluate(cell)
        except InvalidEvaluationError as error:
            return self._nothing(cell, f"invalid: {error}")
        except Exception as error:  # whatever it is, the other cells are worth their hours
            return self._nothing(cell, f"failed: {reason(error)}")
        images = result.images if self._keep_images else None
        return Outcome(cell, result.row, result.records, self._examples(result), images)

    def evaluate(self, cell: Cell) -> CellResult:
        """Evaluate a cell. Raises whatever goes wrong in it."""
        model = self._load(cell.source)
        made = self._perturb(cell, model)

        def score(rows: int) -> CellResult:
            self._images.start(f"{cell.label} · scoring", len(self._data))
            settings = replace(cell.settings, rows=rows)
            return judge(model, self._data, cell.perturbation, made, settings, progress=self._images)

        return self._within_memory("scoring", cell.settings.rows, score)

    def _examples(self, result: CellResult) -> Examples:
        data = self._data
        return Examples(
            data.ids[:EXAMPLES].numpy(),
            data.labels[:EXAMPLES].numpy(),
            to_float(data.images[:EXAMPLES]).numpy(),
            result.images[:EXAMPLES].numpy(),
        )

    def _nothing(self, cell: Cell, status: str) -> Outcome:
        held = self._model
        model = held[1] if held is not None and held[0] == cell.source else None
        return nothing(cell, self._data, status, model)

    def _load(self, source: Source) -> RandomClassifier:
        if self._model is None or self._model[0] != source:
            self._model = self._made = None  # before the next is loaded: they need not fit together
            self._model = source, source.load(self._compute)
            compute = self._compute
            rows = rows_that_fit(self._model[1], compute.memory_limit, compute.memory_share)
            # without a graph a row takes a fourth at most
            self._fitting = {} if rows is None else {"perturbing": rows, "scoring": 4 * rows}
        return self._model[1]

    def _perturb(self, cell: Cell, model: RandomClassifier) -> Made:
        wanted = cell.source, cell.perturbation, cell.settings.seed

        def make(rows: int) -> Made:
            self._images.start(cell.label, len(self._data))
            return perturb(
                model,
                self._data,
                cell.perturbation,
                seed=cell.settings.seed,
                rows=rows,
                progress=self._images,
            )

        if self._made is None or self._made[0] != wanted:
            self._made = None
            self._made = wanted, self._within_memory("perturbing", cell.settings.rows, make)
        return self._made[1]

    def _within_memory(self, phase: Phase, asked: int, work: Callable[[int], _T]) -> _T:
        rows = min(asked, self._fitting.get(phase, asked), self.halved.get(phase, asked))
        while True:
            try:
                return work(rows)
            except (RuntimeError, MemoryError) as error:
                if rows == 1 or not _out_of_memory(error):
                    raise
            # out here the failed attempt's tensors are gone
            torch.cuda.empty_cache()
            rows //= 2
            self.halved[phase] = rows


def _out_of_memory(error: Exception) -> bool:
    """Torch has a class for accelerators only; its CPU allocator and MPS raise a RuntimeError."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error).lower() for word in words
    )


def nothing(cell: Cell, data: ImageDataset, status: str, model: RandomClassifier | None = None) -> Outcome:
    """The outcome of a cell that has come to nothing; `model` where it could be loaded."""
    row = blank_row(model, data, cell.perturbation, cell.settings)
    return Outcome(cell, row | {"checkpoint": cell.source.path.stem, "status": status})


def reason(error: Exception) -> str:
    """One line; of an error that nobody has foreseen also its kind and place."""
    text = " ".join(str(error).split())
    if isinstance(error, BenchError):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return f"{type(error).__name__}: {text[:300]} ({where})"
