"""Certify the cells of a run part by part, and put the attacks of the same run beside them."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import counted, tell
from robustbench_sde.evaluation.bracket import Evaluated, make_brackets
from robustbench_sde.evaluation.certificate_report import (
    Bracket,
    CertificateReport,
    ImageCertificate,
    read_report,
    write_report,
)
from robustbench_sde.evaluation.numbers import has_numbers
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.modules.passes import REMEMBERS
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell, CertifyCell
from robustbench_sde.runs.engine import Engine
from robustbench_sde.runs.sources import Source
from robustbench_sde.storage.certificates import (
    file_of,
    file_of_part,
    read_certificates,
    write_certificates,
)
from robustbench_sde.storage.provenance import joined, may_be_used
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import CERTIFICATES, empty_table


@dataclass
class Certificates:
    """Certificates of a run as they come: those that are whole, and parts of the others."""

    data: ImageDataset
    #: cells in the order of the tables
    cells: Sequence[CertifyCell]
    #: folder of the run; None: in memory
    folder: RunFolder | None
    #: certificates of all images, by cell, with the facts about them; no certificates: the reason in `status`
    done: dict[CertifyCell, tuple[dict[str, Any], pd.DataFrame]] = field(default_factory=dict)
    #: number of cells that were stored already
    reused: int = 0
    #: reports that were stored when the run began
    _found: dict[CertifyCell, CertificateReport | None] = field(default_factory=dict)
    #: whether certificates of other versions of libraries are made again
    _strict: bool = False
    #: numbers of stored reports and parts of other versions, by the sentence about them
    _told: Counter[str] = field(default_factory=Counter)

    def run(self, engine: Engine, compute: Compute, bars: Bars) -> None:
        """Certify what is not stored yet; each part is stored as soon as it is known.

        Raises:
            BenchError: a stored file is damaged, or the folder cannot be written.
        """
        self._strict = compute.strict_versions
        for cell in self.cells:
            report = self._stored(cell)
            self._found[cell] = report
            if report is not None and self._may_be_used(report.made_with):
                about = {name: getattr(report, name) for name in ("noise", "sigma", "solver", "solver_steps")}
                about |= {"seconds": report.seconds, "status": "ok", "made_with": report.made_with}
                self.done[cell] = about, report.records
        self.reused = len(self.done)
        for cell in self.cells:
            if cell not in self.done:
                self._certify(cell, engine, compute, bars)
        for text, number in self._told.items():
            tell(f"{counted(number, 'stored certificate')} {text}")

    def reports(
        self, rows: Mapping[Cell, Mapping[str, Any]], records_of: Callable[[Cell], pd.DataFrame]
    ) -> list[CertificateReport]:
        """Return a report for each cell that is done, with the bracket that the cells of the run give.

        Reports are written into the folder, and the parts that they are made of are removed.

        Args:
            rows: summary rows of the cells of the run.
            records_of: function that returns the records of a cell of the run.
        """
        found = []
        for cell in self.cells:
            if cell not in self.done:
                continue
            about, records = self.done[cell]
            report = self._report(cell, about, records, list(_evaluated(cell, rows, records_of)))
            found.append(report)
            if self.folder is not None and report.certificates:
                if report != self._found.get(cell):  # a later version may have written more than we know
                    write_report(self.folder.path, report)
                for part in cell.parts(len(self.data)):
                    file_of_part(self.folder.path, part.key(self.data)).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # parts of other cells are in it
                    (self.folder.path / "certificates" / "parts").rmdir()
        return found

    def remembering(self) -> dict[Source, str]:
        """Return the status of each classifier that was found to remember earlier calls."""
        statuses = {cell.source: str(about["status"]) for cell, (about, _) in self.done.items()}
        return {source: status for source, status in statuses.items() if REMEMBERS in status}

    def _stored(self, cell: CertifyCell) -> CertificateReport | None:
        if self.folder is None:
            return None
        path = file_of(self.folder.path, cell.label, cell.key(self.data))
        report = read_report(path) if path.exists() else None
        return report if report is not None and report.certificates else None

    def _certify(self, cell: CertifyCell, engine: Engine, compute: Compute, bars: Bars) -> None:
        parts = {part: part.key(self.data) for part in cell.parts(len(self.data))}
        known = {part: found for part, key in parts.items() if (found := self._read_part(key)) is not None}
        bars.images.start(cell.label, len(self.data))
        bars.images.advance(sum(len(records) for _, records in known.values()))
        missing = [part for part in parts if part not in known]
        with contextlib.closing(engine.certify(missing, self.data, compute)) as results:
            for part, result in results:
                assert isinstance(part, CertifyCell)  # what the engine was given
                about: dict[str, Any] = {
                    name: _plain(result.row[name])
                    for name in ("noise", "sigma", "solver", "solver_steps", "seconds", "status")
                }
                about["made_with"] = dict(result.made_with)
                if result.ok and self.folder is not None:
                    write_certificates(file_of_part(self.folder.path, parts[part]), result.records, about)
                known[part] = about, result.records
                bars.images.advance(len(result.records))
        abouts = [known[part][0] for part in parts]
        about = abouts[0] | {"seconds": sum(each["seconds"] or 0.0 for each in abouts)}
        about["made_with"] = joined(each.get("made_with", {}) for each in abouts)
        about["status"] = next((each["status"] for each in abouts if each["status"] != "ok"), "ok")
        records = empty_table(CERTIFICATES)
        if self.folder is not None and REMEMBERS in about["status"]:  # nobody knows which parts were hit
            for key in parts.values():
                file_of_part(self.folder.path, key).unlink(missing_ok=True)
        if about["status"] == "ok":
            records = pd.concat([known[part][1] for part in parts], ignore_index=True)
        self.done[cell] = about, records

    def _read_part(self, key: str) -> tuple[dict[str, Any], pd.DataFrame] | None:
        if self.folder is None:
            return None
        path = file_of_part(self.folder.path, key)
        if not path.exists():
            return None
        about, records = read_certificates(path)
        return (about, records) if self._may_be_used(about.get("made_with", {})) else None

    def _may_be_used(self, made_with: Mapping[str, Any]) -> bool:
        """Whether what is stored counts, by what it was made with; notes what has to be said about it."""
        usable, text = may_be_used(made_with, strict=self._strict)
        if text:
            self._told[text] += 1
        return usable

    def _report(
        self,
        cell: CertifyCell,
        about: Mapping[str, Any],
        records: pd.DataFrame,
        evaluated: Sequence[Evaluated],
    ) -> CertificateReport:
        settings, source = cell.certificate, cell.source
        assert source.smoothing is not None  # `CertifyCell.of` has checked it
        status = str(about["status"])
        brackets: tuple[Bracket, ...] = tuple(Bracket(radius, (np.nan,) * 3) for radius in settings.radii)
        if status == "ok":
            brackets, status = make_brackets(records, evaluated, settings)
        return CertificateReport(
            checkpoint=source.name,
            sha256=source.sha256,
            key=cell.key(self.data),
            dataset=self.data.name,
            fingerprint=self.data.fingerprint,
            images=len(self.data),
            noise=about["noise"],
            sigma=about["sigma"],
            solver=about["solver"],
            solver_steps=about["solver_steps"],
            smoothing=source.smoothing,
            rule=settings.rule,
            draws=settings.draws,
            select_draws=settings.select_draws,
            alpha=settings.alpha,
            early=settings.early,
            seed=settings.seed,
            brackets=brackets,
            average_radius=float(records["radius"].where(records["correct"], 0.0).mean()),
            abstained=float(records["abstained"].mean()),
            mean_draws=float(records["draws"].mean()),
            status=status,
            seconds=float(about["seconds"]),
            certificates=tuple(ImageCertificate(*row) for row in records.itertuples(index=False)),
            made_with=about["made_with"],
        )


def _evaluated(
    certified: CertifyCell,
    rows: Mapping[Cell, Mapping[str, Any]],
    records_of: Callable[[Cell], pd.DataFrame],
) -> Iterator[Evaluated]:
    """Find the cells of a run that have something to say about certificates.

    They are of the same classifier, rule and seed, and have a fixed number of draws: bounds do not hold for
    draws that stop when they look decided.
    """
    for cell, row in rows.items():
        settings = cell.settings
        same = (cell.source, settings.rule, settings.seed) == (
            certified.source,
            certified.certificate.rule,
            certified.certificate.seed,
        )
        if same and settings.draws != "auto" and has_numbers(row["status"]):
            yield Evaluated(row, records_of(cell))


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold; None for NaN."""
    return None if isinstance(value, float) and np.isnan(value) else value
