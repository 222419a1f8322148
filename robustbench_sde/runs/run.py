"""Runs: evaluate cells on any engine, and write a run folder that can be continued."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from robustbench_sde.choices import ImageFormat
from robustbench_sde.errors import InvalidEvaluationError, tell
from robustbench_sde.evaluation.cell import CellResult, check_control
from robustbench_sde.evaluation.certificate_report import CertificateReport, write_reports
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import NUMERIC_VERSION, Cell, CertifyCell
from robustbench_sde.runs.certificates import Certificates
from robustbench_sde.runs.engine import Engine, LocalEngine
from robustbench_sde.runs.ledger import Ledger
from robustbench_sde.runs.room import Replace, make_room, remove_derived, shows
from robustbench_sde.runs.store import StoredCells, has_images, write_images
from robustbench_sde.runs.tables import corruption_table, write_tables
from robustbench_sde.runs.work import Work
from robustbench_sde.runs.worker import Worker
from robustbench_sde.storage.lock import locked
from robustbench_sde.storage.planned import write_planned
from robustbench_sde.storage.provenance import command_line, different, git_revision, versions
from robustbench_sde.storage.run_folder import FORMAT, RunFolder
from robustbench_sde.storage.spreadsheet import csv_text


@dataclass(frozen=True)
class Run:
    """The result of a run."""

    folder: RunFolder
    summary: pd.DataFrame
    #: how many cells were already stored, here or by an earlier run
    reused: int
    #: table of corruptions; None if nothing was corrupted
    corruptions: pd.DataFrame | None = None
    #: reports of the smoothed classifiers that were certified
    certificates: tuple[CertificateReport, ...] = ()
    #: how many of these were already stored
    reused_certificates: int = 0


def run_cells(
    work: Work,
    folder: RunFolder,
    *,
    engine: Engine | None = None,
    compute: Compute | None = None,
    bars: Bars | None = None,
    cache: bool = False,
    stored: StoredCells | None = None,
    save_images: ImageFormat | None = None,
    about: Mapping[str, Any] | None = None,
    reference: str | None = None,
    replace: Replace = False,
) -> Run:
    """Run the cells that are not stored yet, and write the tables of all of them, in the order of `work`.

    After an interruption at any moment the same call continues where it stopped. A cell that is invalid or
    fails does not stop the others: the status of its row says why, and it is not stored, so that the next
    run tries it again.

    Args:
        work: the cells and the images.
        folder: where everything is written; no other process may run in it.
        engine: who does the work; None: this process.
        compute: where and how the models are computed; None: on the CPU.
        bars: progress bars of cells and images.
        cache: whether cells that runs in folders beside `folder` have stored are taken from there.
        stored: the stored cells, if a plan has read them already: their files are not read again.
        save_images: also write all images that were perturbed; a cell without them counts as not stored. Only
            this process does that.
        about: further entries of the manifest.
        reference: name of the checkpoint whose errors mCE is relative to; None: no mCE.
        replace: whether another run that the folder holds is replaced; one whose cells are all in `work` goes
            on in any case.

    Raises:
        BenchError: the folder cannot be written, is in use or holds another run, or a stored cell is damaged.
    """
    engine = engine or LocalEngine(keep_images=save_images is not None)
    bars, compute = bars or Bars(), compute or Compute()
    with locked(folder.path):
        folder.remove_leftovers()
        about = dict(about or {})
        make_room(folder, work, replace=replace, suite=dict(about.get("suite", {})).get("name", ""))
        to_certify = [_planned(cell, cell.key(work.data)) for cell in work.certified]
        nothing_made: dict[Cell, Mapping[str, Any]] = {cell: {} for cell in work.cells}
        planned = _manifest(work, nothing_made, to_certify, compute, engine, complete=False)
        write_planned(folder, planned | about)
        if stored is None:
            found = StoredCells.find(work, folder, cache=cache, strict_versions=compute.strict_versions)
            for text in found.outdated_in_words():
                tell(f"computed again: {text}")
        else:
            found = stored.present_in(folder, work)
        found.adopt(work, folder)
        ledger = Ledger(work, folder, found.rows, found.records, found.made_with)
        for text in found.other_versions_in_words():
            tell(text)
        if save_images is not None:
            ledger.keep_only(cell for cell in work.cells if has_images(cell, work, folder, save_images))
        ledger.forget_apart()
        reused = len(ledger.rows)
        missing = work.without(ledger.rows)
        bars.cells.start("cells", len(work) + len(work.certified))
        bars.cells.advance(reused)
        certificates = Certificates(work.data, work.certified, folder)
        reports: list[CertificateReport] = []
        try:
            with contextlib.closing(engine.run(missing, compute, bars)) as results:
                for cell, result in results:
                    ledger.add(cell, result)
                    if save_images is not None:
                        write_images(cell, result, work, folder, save_images)
                    bars.cells.advance(1)
            certificates.run(engine, compute, bars)
        finally:
            ledger.forget_remembering(certificates.remembering())
            ledger.check_controls(missing.keys)
            done = ledger.in_order()
            status = {cell: row["status"] for cell, row in ledger.rows.items()}
            corruptions = None
            if len(done) == len(work):
                corruptions = corruption_table(work.cells, status, ledger.records, reference)
            if certificates.done:
                reports = certificates.reports(done, lambda cell: folder.read_records(work.keys[cell]))
            if not shows(folder, list(done.values()), reports, corruptions):
                remove_derived(folder)
            if certificates.done:
                write_reports(folder.path, reports)
            if corruptions is not None:
                folder.write_text("corruptions.csv", csv_text(corruptions))
            if done:
                summary = folder.write_summary(list(done.values()))
                about_reports = [_about(report) for report in reports]
                made_with = {cell: ledger.made_with.get(cell, {}) for cell in done}
                whole = len(done) == len(work) and len(reports) == len(work.certified)
                manifest = _manifest(work, made_with, about_reports, compute, engine, complete=whole)
                records = {work.keys[cell]: found for cell, found in ledger.records.items()}
                write_tables(summary, manifest["cells"], folder, records.__getitem__)
                folder.write_manifest(manifest | about)
    return Run(folder, summary, reused, corruptions, tuple(reports), certificates.reused)


def run_in_memory(
    work: Work, *, compute: Compute, bars: Bars
) -> tuple[list[CellResult], list[CertificateReport]]:
    """Evaluate and certify all cells in their order and return what comes of it; nothing is written.

    Raises:
        BenchError: the data do not fit a model.
        InvalidEvaluationError: a perturbed image is not valid, logits are not finite, or a control differs
            from clean.
    """
    worker = Worker(work.data, compute, bars.images)
    bars.cells.start("cells", len(work) + len(work.certified))
    found: dict[Cell, CellResult] = {}
    for cell, key in work.keys.items():
        bars.cells.advance(0, note=cell.title)
        result = worker.evaluate(cell)
        found[cell] = replace(result, row=result.row | {"cell": key})
        clean = found.get(replace(cell, perturbation=Clean()))
        if isinstance(cell.perturbation, Control) and clean is not None:
            check_control(clean.records, found[cell].records)
        bars.cells.advance(1)
    certificates = Certificates(work.data, work.certified, None)
    certificates.run(LocalEngine(), compute, bars)
    rows = {cell: result.row for cell, result in found.items()}
    reports = certificates.reports(rows, lambda cell: found[cell].records)
    for report in reports:
        if not report.certificates:
            raise InvalidEvaluationError(f"{report.checkpoint}: {report.status}")
    return list(found.values()), reports


def _manifest(
    work: Work,
    made_with: Mapping[Cell, Mapping[str, Any]],
    certificates: Sequence[Mapping[str, Any]],
    compute: Compute,
    engine: Engine,
    *,
    complete: bool,
) -> dict[str, Any]:
    data = work.data
    made_differently = different([*made_with.values(), *(each.get("made_with", {}) for each in certificates)])
    return {
        "format": FORMAT,
        "command": command_line(),
        "complete": complete,
        "versions": versions(),
        "numeric_version": NUMERIC_VERSION,
        "git_revision": git_revision(),
        **compute.describe(),
        "batch_size": {"asked": max(cell.settings.rows for cell in work.cells), **engine.halved},
        **engine.describe(),
        "dataset": {
            "name": data.name,
            "split": data.split,
            "fingerprint": data.fingerprint,
            "images": len(data),
            "class_names": list(data.class_names),
        },
        "checkpoints": {source.name: source.sha256 for source in work.sources},
        **({"made_with": made_differently} if made_differently else {}),
        "cells": [
            {
                "cell": work.keys[cell],
                "checkpoint": cell.source.name,
                "precision": cell.source.precision,
                **({"noise_definition": cell.noise_definition} if cell.noise_definition else {}),
                "solver": [cell.source.solver, cell.source.solver_steps],
                **({"made_with": made_differently.index(dict(made))} if made else {}),
                **({} if cell.source.smoothing is None else {"smoothing": cell.source.smoothing}),
                "perturbation": repr(cell.perturbation),
                "parameters": cell.perturbation.settings,
                "scoring": {
                    "draws": cell.settings.draws,
                    "rule": cell.settings.rule,
                    "seed": cell.settings.seed,
                },
            }
            for cell, made in made_with.items()
        ],
        **(
            {"certificates": [_indexed(each, made_differently) for each in certificates]}
            if certificates
            else {}
        ),
    }


def _indexed(about: Mapping[str, Any], made_differently: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Replace what a certificate was made with by its place in the list, as cells have it."""
    made = about.get("made_with")
    rest = {name: value for name, value in about.items() if name != "made_with"}
    return rest | ({"made_with": made_differently.index(made)} if made else {})


def _planned(cell: CertifyCell, key: str) -> dict[str, Any]:
    """Describe certificates that are to be made, in the plan."""
    return {"certificate": key, "checkpoint": cell.source.name, "rule": cell.certificate.rule}


def _about(report: CertificateReport) -> dict[str, Any]:
    """Describe certificates in the manifest: the settings that decide them."""
    return {
        "certificate": report.key,
        "checkpoint": report.checkpoint,
        "smoothing": report.smoothing,
        "rule": report.rule,
        "radii": [bracket.radius for bracket in report.brackets],
        "draws": report.draws,
        "select_draws": report.select_draws,
        "alpha": report.alpha,
        "early": report.early,
        "seed": report.seed,
        "made_with": dict(report.made_with),
    }
