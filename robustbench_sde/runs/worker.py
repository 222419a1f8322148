"""Evaluates cells one after the other, and keeps what the next one may need."""

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

import pandas as pd
import torch

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.evaluation.cell import CellResult, blank_row, judge, perturb
from robustbench_sde.evaluation.certify import certificates
from robustbench_sde.evaluation.repeat import FirstAnswer
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.graphs import forget_recordings
from robustbench_sde.models.memory import check_images_fit, memory_budget, rows_that_fit
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.base import Perturbation, Perturbed
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.runs.cells import Cell, CertifyCell
from robustbench_sde.runs.sources import Source
from robustbench_sde.sde.heap import keep_freed_memory
from robustbench_sde.storage.examples import EXAMPLES

Phase = Literal["perturbing", "scoring"]
PHASES: tuple[Phase, ...] = get_args(Phase)
#: relative change of a logit that is rounding where code is compiled again for other batches
_COMPILED = 1e-4
_T = TypeVar("_T")


class Worker:
    """Evaluates cells; holds one model and the images of one perturbation at a time.

    Cells that follow each other and differ only in how they are scored share their images. A batch has no
    more rows than a forecast says fit into memory; if that fails, it is halved, separately for perturbing and
    scoring, and stays halved.
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
        #: answers of the model from before its first cell, or what was wrong with them; None if it fails
        self._first: FirstAnswer | InvalidEvaluationError | None = None
        self._made: tuple[tuple[Source, Perturbation, int], Perturbed] | None = None
        #: rows of a batch that fit into memory, by phase, if fewer than asked for; the dict that is given
        self.halved: dict[Phase, int] = {} if halved is None else halved
        keep_freed_memory()

    def attempt(self, cell: Cell) -> CellResult:
        """Evaluate a cell; an error becomes the status of its row.

        Only the first `EXAMPLES` images stay in the result unless the worker was asked to keep all.
        """
        try:
            result = self.evaluate(cell)
        except InvalidEvaluationError as error:
            return self._failed(cell, f"invalid: {error}")
        except (Exception, SystemExit) as error:  # whatever it is, the other cells are worth their hours
            return self._failed(cell, f"failed: {line_with_place(error)}")
        result = replace(result, made_with=self._compute.made_with(self._rows_of(cell)))
        return result if self._keep_images else replace(result, images=result.images[:EXAMPLES].clone())

    def _rows_of(self, cell: Cell) -> int:
        """Return the rows of the smallest batches that fitted, at most as many as were asked for."""
        return min([cell.settings.rows, *self._fitting.values(), *self.halved.values()])

    def evaluate(self, cell: Cell) -> CellResult:
        """Evaluate a cell. Raises whatever goes wrong in it."""
        model = self._load(cell.source)
        if isinstance(self._first, InvalidEvaluationError):
            raise self._first
        self._check_memory(cell, model)
        if isinstance(cell, CertifyCell):
            return self._certify(cell, model)
        perturbed = self._perturb(cell, model)

        def score(rows: int) -> CellResult:
            self._images.start(f"{cell.title} · scoring", len(self._data))
            settings = replace(cell.settings, rows=rows)
            return judge(model, self._data, cell.perturbation, perturbed, settings, progress=self._images)

        result = self._within_memory("scoring", cell.settings.rows, score)
        if self._first is not None:
            self._first.check(model, tolerance=_COMPILED if self._compute.compile else 0.0)
        return replace(result, row=result.row | {"checkpoint": cell.source.name})

    def _check_memory(self, cell: Cell, model: RandomClassifier) -> None:
        """Refuse a cell whose images alone do not fit; what networks of ours take, a pass has shown."""
        if model.built_in is not None:
            return
        compute, perturbation = self._compute, cell.perturbation
        is_attack = isinstance(perturbation, Attack) and perturbation.changes_images
        least = perturbation.images_per_batch(1, model.stochastic) if is_attack else 1
        check_images_fit(
            self._data.images.shape[1:],
            min(len(self._data), least),
            perturbation.label,
            memory_budget(model.device, compute.memory_limit),
            is_attack=is_attack,
        )

    def turn_to(self, data: ImageDataset) -> None:
        """Go on with other images, and the model that is loaded."""
        self._data, self._made = data, None

    def _certify(self, cell: CertifyCell, model: RandomClassifier) -> CellResult:
        """Certify all images; they count on the bar of whoever has cut the cell into parts."""
        smoothing = cell.source.smoothing
        assert smoothing is not None  # `CertifyCell.of` has checked it
        started = time.perf_counter()

        def certify(rows: int) -> pd.DataFrame:
            settings = replace(cell.certificate, rows=rows)
            return certificates(model, self._data, settings, sigma=smoothing)

        records = self._within_memory("scoring", cell.settings.rows, certify)
        if isinstance(self._first, FirstAnswer):
            self._first.check(model, tolerance=_COMPILED if self._compute.compile else 0.0)
        row = blank_row(model, self._data, cell.perturbation, cell.settings)
        row |= {"checkpoint": cell.source.name, "seconds": time.perf_counter() - started}
        return CellResult(row, records, torch.empty(0, 0, 0, 0))

    def _failed(self, cell: Cell, status: str) -> CellResult:
        held = self._model
        model = held[1] if held is not None and held[0] == cell.source else None
        return failed_result(cell, self._data, status, model)

    def _load(self, source: Source) -> RandomClassifier:
        if self._model is None or self._model[0] != source:
            self._model = self._made = None  # before the next is loaded: they need not fit together
            self._model = source, source.load(self._compute)
            self._first = self._ask_first(self._model[1])
            compute = self._compute
            rows = rows_that_fit(self._model[1], compute.memory_limit, compute.memory_share)
            # without a graph a row takes a fourth at most
            self._fitting = {} if rows is None else {"perturbing": rows, "scoring": 4 * rows}
        return self._model[1]

    def _ask_first(self, model: RandomClassifier) -> FirstAnswer | InvalidEvaluationError | None:
        try:
            return FirstAnswer.of(model, self._data)
        except InvalidEvaluationError as error:
            return error
        except Exception:  # its cells will fail in the same way, and say how
            return None

    def _perturb(self, cell: Cell, model: RandomClassifier) -> Perturbed:
        wanted = cell.source, cell.perturbation, cell.settings.seed

        def make(rows: int) -> Perturbed:
            self._images.start(cell.title, len(self._data))
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
            forget_recordings()
            torch.cuda.empty_cache()
            rows //= 2
            self.halved[phase] = rows


def _out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice.

    Torch has a class for accelerators only; its CPU allocator and MPS raise a RuntimeError.
    """
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error).lower() for word in words
    )


def failed_result(
    cell: Cell, data: ImageDataset, status: str, model: RandomClassifier | None = None
) -> CellResult:
    """Make the result of a cell without numbers; `model` if it could be loaded, for its facts."""
    row = blank_row(model, data, cell.perturbation, cell.settings)
    return CellResult.failed(row | {"checkpoint": cell.source.name}, status)


def line_with_place(error: BaseException) -> str:
    """Say an error in one line; with its kind and place unless it is a `BenchError`."""
    text = " ".join(str(error).split())
    if isinstance(error, BenchError):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return f"{type(error).__name__}: {text[:300]} ({where})"
