"""Stability of several checkpoints, resumable: one report a checkpoint in a folder."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError, tell
from robustbench_sde.evaluation.repeat import unchanged
from robustbench_sde.evaluation.stability.analysis import StabilitySettings, stability
from robustbench_sde.evaluation.stability.report import (
    StabilityReport,
    path_of,
    read_all_stability,
    read_stability,
    write_stability,
)
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source
from robustbench_sde.storage.provenance import may_be_used
from robustbench_sde.storage.run_folder import RunFolder


def stability_key(
    source: Source, data: ImageDataset, perturbations: Sequence[Perturbation], settings: StabilitySettings
) -> str:
    """Hash all that decides the numbers of a report: the keys of its cells, and the number of paths."""
    cells = [Cell(source, perturbation, settings.score) for perturbation in (Clean(), *perturbations)]
    parts = [*(cell.key(data) for cell in cells), str(settings.paths)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def make_room_for_reports(folder: Path, keys: Sequence[str], *, force: bool) -> None:
    """Remove the reports of a folder if there are others than those that will be written, or refuse.

    Args:
        folder: folder of the reports.
        keys: keys of the reports that will be written (`stability_key`).
        force: whether the others are removed.

    Raises:
        BenchError: there are others, and they must not be removed, or one is damaged.
    """
    found = read_all_stability(folder)
    others = [report.checkpoint for report in found if report.key not in keys]
    if not others:
        return
    if not force:
        raise BenchError(
            f"{folder} holds other stability reports ({', '.join(others)}); give `force` to replace them, or "
            "another `out`"
        )
    tell(f"replaces the stability reports in {folder} ({', '.join(others)})")
    for report in found:
        path_of(folder, report.checkpoint).unlink()
    for path in (folder / "figures").glob("stability.*"):
        path.unlink()


def run_stability(
    sources: Sequence[Source],
    data: ImageDataset,
    perturbations: Sequence[Perturbation],
    settings: StabilitySettings,
    folder: RunFolder | None,
    *,
    compute: Compute,
    bars: Bars,
) -> tuple[list[StabilityReport], int]:
    """Return the reports, in the order of `sources`, and how many of them were in the folder already.

    Each is written when it is finished, so that the same call goes on after an interruption; without a folder
    nothing is written.

    Raises:
        BenchError: a stored report is damaged, or a checkpoint has changed.
        InvalidEvaluationError: a model remembers earlier calls, or a result is not valid.
    """
    reports, reused = [], 0
    for source in sources:
        key = stability_key(source, data, perturbations, settings)
        report = None if folder is None else read_stability(folder.path, source.name)
        usable, text = False, ""
        if report is not None and report.key == key:
            usable, text = may_be_used(report.made_with, strict=compute.strict_versions)
        if text:
            tell(f"stability report of {source.name} {text}")
        if report is not None and usable:
            reused += 1
        else:
            model = source.load(compute)
            with unchanged(model, data):
                report = stability(
                    model, data, perturbations, settings, sha256=source.sha256, key=key, bars=bars
                )
            report = replace(report, made_with=compute.made_with(settings.score.rows))
            if folder is not None:
                write_stability(folder.path, report)
        reports.append(report)
    return reports, reused
