"""Make room for a run: its folder holds no other run, or the other one is removed as a whole.

The files of cells (`records/`, `examples/`, `certificates/`) are named after all that decides them; they
stay, and the command of the other run takes them up again.
"""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from robustbench_sde.errors import BenchError, tell
from robustbench_sde.evaluation.certificate_report import CertificateReport
from robustbench_sde.runs.cells import NUMERIC_VERSION
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.certificates import read_certified
from robustbench_sde.storage.planned import HeldRun, held_run
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import CERTIFIED, SUMMARY, table
from robustbench_sde.storage.spreadsheet import csv_text

#: Whether another run in the folder is replaced: always, never, or an earlier one of the same suite.
Replace = bool | Literal["suite"]

#: what is made from the tables of a run, by its own command, by `report`, `study` and `versus`
_DERIVED = (
    *(
        "index.html",
        "glance.tex",
        "summary.tex",
        "versus.json",
        "versus.md",
        "versus.tex",
        "study.csv",
        "study.md",
    ),
    *("corruptions.csv", "distances.csv", "certificates.csv", "certificates.parquet"),
)
#: tables, in the order of their removal: what says that a run is whole goes first
_TABLES = ("manifest.yaml", "suite.yaml", "summary.md", "summary.csv", "summary.parquet")


def make_room(folder: RunFolder, work: Work, *, replace: Replace, suite: str = "") -> None:
    """Remove another run from a folder, or refuse.

    A run is another one if it has cells that `work` lacks: its tables would lose rows. A run whose cells are
    all in `work` goes on.

    Args:
        folder: folder of the new run, whose lock is held.
        work: cells of the new run.
        replace: whether another run may be removed.
        suite: name of the suite of `work`; empty without one.

    Raises:
        BenchError: there is another run, and it must not be removed; or files cannot be removed.
    """
    held = held_run(folder)
    if held is None or not (held.is_later or _lost(held, work)):
        return
    same_suite = replace == "suite" and held.suite == suite != ""
    if replace is not True and not same_suite:
        raise BenchError(
            f"{folder.path} holds another run ({held}{_other_numbers(held)}); give `force` to replace it, or "
            "another `out`"
        )
    tell(f"replaces the run in {folder.path} ({held}); its cells stay stored")
    try:
        _remove_run(folder, work)
    except OSError as error:
        raise BenchError(f"cannot clean {folder.path}: {error.strerror or error}") from error


def shows(
    folder: RunFolder,
    rows: list[dict[str, Any]],
    reports: Sequence[CertificateReport],
    corruptions: pd.DataFrame | None,
) -> bool:
    """Whether the tables in a folder are those of these rows already, so that its page and figures stay."""
    try:
        told, certified = folder.read_corruptions(), read_certified(folder.path)
        if (told is None) != (corruptions is None) or (certified is None) != (not reports):
            return False
        same = folder.read_manifest() is not None and folder.read_summary().equals(table(rows, SUMMARY))
        if certified is not None:
            own = table([row for report in reports for row in report.rows()], CERTIFIED)
            same = same and certified.equals(own)
        if corruptions is not None:
            path = folder.path / "corruptions.csv"
            same = same and path.read_text("utf-8") == csv_text(corruptions)
    except (OSError, ValueError, BenchError):  # nothing that could stay
        return False
    return same


def remove_derived(folder: RunFolder) -> None:
    """Remove page, figures and further tables, which show other rows than those that are being written.

    The manifest goes too, so that a process that is killed now leaves a run that says it is not finished.

    Raises:
        BenchError: a file cannot be removed.
    """
    try:
        _remove(folder.path / name for name in ("manifest.yaml", *_DERIVED))
        _remove(_figures(folder))
    except OSError as error:
        raise BenchError(f"cannot clean {folder.path}: {error.strerror or error}") from error


def _other_numbers(held: HeldRun) -> str:
    """Say that the cells of a run have the numbers of another version; nothing if they have not."""
    if held.numeric_version in (None, NUMERIC_VERSION):
        return ""
    return f", numbers of version {held.numeric_version}; this sde-bench computes version {NUMERIC_VERSION}"


def _lost(held: HeldRun, work: Work) -> bool:
    """Whether a run has cells that the work lacks, under the keys of this version and of earlier ones."""
    lost = held.keys - _keys(work)
    earlier = (cell.earlier_keys(work.data) for cell in work.cells) if lost else ()
    return bool(lost - {key for keys in earlier for key in keys})


def _keys(work: Work) -> set[str]:
    return {*work.keys.values(), *(cell.key(work.data) for cell in work.certified)}


def _remove_run(folder: RunFolder, work: Work) -> None:
    place = folder.path
    _remove(place / name for name in ("manifest.yaml", *_DERIVED))
    _remove(_figures(folder))
    keys = _keys(work)
    _remove(path for path in (place / "images").glob("*-*.*") if path.stem.rpartition("-")[2] not in keys)
    kept = {source.sha256 for source in work.sources if source.sha256}
    _remove(_of_others(place / "audits", kept))
    if _remove(_of_others(place / "stability", kept)):
        _remove((place / "figures").glob("stability.*"))
    _remove(place / name for name in _TABLES)
    for name in ("figures", "images", "audits", "stability"):
        if not any(path.is_file() for path in (place / name).rglob("*")):
            shutil.rmtree(place / name, ignore_errors=True)


def _figures(folder: RunFolder) -> list[Path]:
    """List the figures but that of `stability`, whose numbers are no tables of a run."""
    return [path for path in (folder.path / "figures").glob("*") if path.stem != "stability"]


def _of_others(place: Path, kept: Collection[str]) -> Iterator[Path]:
    """Yield reports on checkpoints whose hashes are not in `kept`."""
    for path in list(place.rglob("*.json")):
        try:
            report = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            report = {}
        if not isinstance(report, dict) or report.get("sha256") not in kept:
            yield path


def _remove(paths: Iterable[Path]) -> int:
    """Remove files that may be missing, in order, and count them."""
    count = 0
    for path in paths:
        count += path.exists()
        path.unlink(missing_ok=True)
    return count
