"""A run: cells, whoever does the work, into a run folder that can be gone on with."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.cell import CellResult, check_control
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.engine import Engine, LocalEngine
from robustbench_sde.runs.store import StoredCells, has_images, write_images
from robustbench_sde.runs.worker import Outcome, Worker
from robustbench_sde.storage.images import ImageFormat
from robustbench_sde.storage.lock import locked
from robustbench_sde.storage.provenance import command_line, git_revision, versions
from robustbench_sde.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    """What a run leaves behind."""

    folder: RunFolder
    summary: pd.DataFrame
    #: how many cells were already stored, here or by an earlier run
    reused: int


def run_cells(
    cells: Sequence[Cell],
    data: ImageDataset,
    folder: RunFolder,
    *,
    engine: Engine | None = None,
    compute: Compute | None = None,
    bars: Bars | None = None,
    cache: bool = False,
    save_images: ImageFormat | None = None,
    about: Mapping[str, Any] | None = None,
) -> Run:
    """Run the cells that are not stored yet, and write the tables of all of them, in the order of `cells`.

    Interrupted at any moment, the same call goes on where it stopped. A cell that is invalid or fails does
    not stop the others: the status of its row says why, and it is not stored, so that the next run tries it
    again.

    Args:
        cells: what to run; equal ones are run once.
        data: the images.
        folder: where everything is written; no other process may run in it.
        engine: who does the work; None: this process.
        compute: where and how the models are computed; None: on the CPU.
        bars: told of cells and images.
        cache: whether cells that runs in folders beside `folder` have stored are taken from there.
        save_images: also write all images that were perturbed; a cell without them counts as not stored. Only
            this process does that.
        about: more for the manifest.

    Raises:
        BenchError: the folder cannot be written or is in use, or a stored cell is damaged.
    """
    engine = engine or LocalEngine(keep_images=save_images is not None)
    bars, compute = bars or Bars(), compute or Compute()
    with locked(folder.path):
        folder.remove_leftovers()
        stored = StoredCells.find(cells, data, folder, cache=cache)
        rows = stored.own | stored.adopt(data, folder)
        if save_images is not None:
            rows = {cell: row for cell, row in rows.items() if has_images(cell, data, folder, save_images)}
        wanted = dict.fromkeys(cells)
        _forget_apart(rows, wanted, data, folder)
        reused = len(rows)
        missing = [cell for cell in wanted if cell not in rows]
        bars.cells.start("cells", len(wanted))
        bars.cells.advance(reused)
        try:
            with contextlib.closing(engine.run(missing, data, compute, bars)) as outcomes:
                for outcome in outcomes:
                    rows[outcome.cell] = _store(outcome, data, folder)
                    if save_images is not None:
                        write_images(outcome, data, folder, save_images)
                    bars.cells.advance(1)
        finally:
            done = {cell: rows[cell] for cell in wanted if cell in rows}
            if done:
                _check_controls(done, missing, data, folder)
                summary = folder.write_summary(list(done.values()))
                manifest = _manifest(list(wanted), done, data, compute, engine)
                folder.write_manifest(manifest | dict(about or {}))
    return Run(folder, summary, reused)


def run_in_memory(
    cells: Sequence[Cell], data: ImageDataset, *, compute: Compute, bars: Bars
) -> list[CellResult]:
    """What the cells yield, equal ones once, in the order of `cells`; nothing is written.

    Raises:
        BenchError: the data do not fit a model.
        InvalidEvaluationError: a perturbed image is not valid, logits are not finite, or a control differs
            from clean.
    """
    worker = Worker(data, compute, bars.images)
    wanted = dict.fromkeys(cells)
    bars.cells.start("cells", len(wanted))
    found: dict[Cell, CellResult] = {}
    for cell in wanted:
        bars.cells.advance(0, note=cell.label)
        found[cell] = worker.evaluate(cell)
        clean = found.get(replace(cell, perturbation=Clean()))
        if isinstance(cell.perturbation, Control) and clean is not None:
            check_control(clean.records, found[cell].records)
        bars.cells.advance(1)
    return list(found.values())


def _store(outcome: Outcome, data: ImageDataset, folder: RunFolder) -> dict[str, Any]:
    """Store a cell that has come to something; the row of any."""
    cell = outcome.cell
    key = cell.key(data)
    row = outcome.row | {"cell": key}
    if outcome.records is not None and outcome.examples is not None:
        folder.write_examples(key, outcome.examples)
        folder.write_cell(key, cell.label, row, outcome.records)
    return row


def _controlled(cells: Iterable[Cell]) -> Iterator[tuple[Cell, list[Cell]]]:
    """Clean cells with their controls, which have to equal them to the last bit."""
    together: dict[object, list[Cell]] = {}
    for cell in cells:
        if isinstance(cell.perturbation, Clean | Control):
            together.setdefault((cell.source, cell.settings), []).append(cell)
    for group in together.values():
        clean = [cell for cell in group if isinstance(cell.perturbation, Clean)]
        controls = [cell for cell in group if isinstance(cell.perturbation, Control)]
        if clean and controls:
            yield clean[0], controls


def _forget_apart(
    rows: dict[Cell, dict[str, Any]], wanted: Iterable[Cell], data: ImageDataset, folder: RunFolder
) -> None:
    """Forget clean rows and controls that were stored apart, so that they are made anew, together.

    Another batch size or machine rounds otherwise.
    """
    for clean, controls in _controlled(wanted):
        together = clean, *controls
        if not all(cell in rows for cell in together) or _difference(clean, controls, data, folder):
            for cell in together:
                rows.pop(cell, None)


def _check_controls(
    rows: dict[Cell, dict[str, Any]], made: Collection[Cell], data: ImageDataset, folder: RunFolder
) -> None:
    """Mark all rows of a checkpoint of which a control that was `made` does not equal its clean row."""
    ok = [cell for cell, row in rows.items() if row["status"] == "ok"]
    for clean, controls in _controlled(ok):
        if clean in made and (error := _difference(clean, controls, data, folder)):
            for cell, row in rows.items():
                if cell.source == clean.source and row["status"] == "ok":
                    row["status"] = f"invalid: {error}"


def _difference(clean: Cell, controls: list[Cell], data: ImageDataset, folder: RunFolder) -> str:
    """What is said of the first stored control that does not equal its clean row; empty if they all do."""
    try:
        for control in controls:
            check_control(*(folder.read_records(cell.key(data)) for cell in (clean, control)))
    except InvalidEvaluationError as error:
        return str(error)
    return ""


def _manifest(
    cells: Sequence[Cell],
    rows: dict[Cell, dict[str, Any]],
    data: ImageDataset,
    compute: Compute,
    engine: Engine,
) -> dict[str, Any]:
    return {
        "format": 1,
        "command": command_line(),
        "complete": len(rows) == len(cells),
        "versions": versions(),
        "git_revision": git_revision(),
        **compute.describe(),
        "batch_size": {"asked": max(cell.settings.rows for cell in cells), **engine.halved},
        **engine.describe(),
        "dataset": {
            "name": data.name,
            "split": data.split,
            "fingerprint": data.fingerprint,
            "images": len(data),
            "class_names": list(data.class_names),
        },
        "checkpoints": {source.path.stem: source.sha256 for source in {cell.source: 0 for cell in cells}},
        "cells": [
            {
                "cell": cell.key(data),
                "checkpoint": cell.source.path.stem,
                "precision": cell.source.precision,
                "solver": [cell.source.solver, cell.source.solver_steps],
                "perturbation": repr(cell.perturbation),
                "scoring": {
                    "draws": cell.settings.draws,
                    "rule": cell.settings.rule,
                    "seed": cell.settings.seed,
                },
            }
            for cell in rows
        ],
    }
