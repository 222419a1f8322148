"""The engine that runs cells in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.cell import blank_row, check_control, evaluate
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.results.provenance import command_line, git_revision, versions
from robustbench_sde.results.run_folder import RunFolder
from robustbench_sde.suite.cells import Cell, Source


@dataclass(frozen=True)
class Run:
    """What a run leaves behind."""

    folder: RunFolder
    summary: pd.DataFrame
    #: how many cells were already stored
    reused: int


def run_cells(
    cells: Sequence[Cell],
    data: ImageDataset,
    folder: RunFolder,
    *,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Run:
    """Run the cells that are not stored yet, in order, and write the tables of all of them.

    Interrupted at any moment, the same call goes on where it stopped. An invalid cell is reported in the
    status of its row, not stored, and does not stop the others.

    Raises:
        BenchError: the folder cannot be written, or a stored cell is damaged.
    """
    folder.prepare()
    rows: dict[Cell, dict[str, Any]] = {}
    reused = 0
    models: dict[Source, Classifier] = {}
    progress.start("cells", len(cells) * len(data))
    try:
        for cell in cells:
            key = cell.key(data)
            row = folder.read_cell(key, cell.label)
            if row is not None:
                reused += 1
                progress.advance(len(data), note=cell.label)
            else:
                if cell.source not in models:  # cells of one checkpoint follow each other: keep one
                    models = {cell.source: cell.source.load(device)}
                progress.advance(0, note=cell.label)
                row = _run_cell(cell, key, models[cell.source], data, folder, progress)
            rows[cell] = row
    finally:
        if rows:
            _check_controls(rows, data, folder)
            summary = folder.write_summary(list(rows.values()))
            folder.write_manifest(_manifest(cells, rows, data, device))
    return Run(folder, summary, reused)


def _run_cell(
    cell: Cell, key: str, model: Classifier, data: ImageDataset, folder: RunFolder, progress: Progress
) -> dict[str, Any]:
    try:
        result = evaluate(model, data, cell.perturbation, cell.settings, progress=progress)
    except InvalidEvaluationError as error:
        row = blank_row(model, data, cell.perturbation, cell.settings)
        return row | {"cell": key, "status": f"invalid: {error}"}
    row = result.row | {"cell": key}
    folder.write_cell(key, cell.label, row, result.records)
    return row


def _check_controls(rows: dict[Cell, dict[str, Any]], data: ImageDataset, folder: RunFolder) -> None:
    """Mark all rows of a checkpoint whose control does not equal its clean row."""
    by_name = {
        (cell.source, row["perturbation"]): cell for cell, row in rows.items() if row["status"] == "ok"
    }
    for source in {cell.source for cell in rows}:
        pair = [by_name.get((source, name)) for name in ("clean", "control")]
        if None in pair:
            continue
        clean, control = (folder.read_records(cell.key(data), cell.label) for cell in pair if cell)
        try:
            check_control(clean, control)
        except InvalidEvaluationError as error:
            for cell, row in rows.items():
                if cell.source == source:
                    row["status"] = f"invalid: {error}"


def _manifest(
    cells: Sequence[Cell], rows: dict[Cell, dict[str, Any]], data: ImageDataset, device: str
) -> dict[str, Any]:
    return {
        "format": 1,
        "command": command_line(),
        "complete": len(rows) == len(cells),
        "versions": versions(),
        "git_revision": git_revision(),
        "device": device,
        "dataset": {
            "name": data.name,
            "split": data.split,
            "fingerprint": data.fingerprint,
            "images": len(data),
        },
        "checkpoints": {source.path.stem: source.sha256 for source in {cell.source: 0 for cell in cells}},
        "cells": [
            {
                "cell": cell.key(data),
                "checkpoint": cell.source.path.stem,
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
