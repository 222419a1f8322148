"""Read the summary of a run only after checking that it follows from the records of its cells."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation.numbers import has_numbers, numbers_of, suspicion
from robustbench_sde.evaluation.tries import is_deterministic
from robustbench_sde.storage.cell_file import StoredCell
from robustbench_sde.storage.planned import read_planned
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import SUMMARY, table

#: columns that a cell's file does not decide: names of today, and whether the run may be used
_OF_THE_RUN = ("checkpoint", "dataset", "status", "seconds")
#: columns that earlier versions did not write: NaN there; those that follow from records are filled in
_LATER = {column.name for column in SUMMARY if column.later and math.isnan(column.old)}
#: numbers differ by no more when they are computed again
_ROUNDING = 1e-9


def read_checked_summary(folder: RunFolder) -> pd.DataFrame:
    """Read the summary of a run; every row with numbers is compared with its stored cell.

    Rows and cells that are as the run has written them are not compared once more. Columns that the version
    of the run did not write, and that follow from records, are filled in.

    Raises:
        BenchError: there is none, a file is missing or damaged, a row does not follow from its records, or
            the rows are not those of the manifest.
    """
    summary = folder.read_summary()
    if (folder.path / "manifest.yaml").exists():
        check_listed(folder, summary, folder.read_manifest()["cells"])
    rows, unchanged = summary.to_dict("records"), folder.unchanged_cells()
    for row in rows:
        if has_numbers(row["status"]) and row["cell"] not in unchanged:
            records = read_checked_records(folder, row)
            row.update(_lacking(row, records))
    return table(pd.DataFrame(rows, columns=summary.columns), SUMMARY)


def read_checked_summary_so_far(folder: RunFolder) -> pd.DataFrame:
    """Read the summary of the stored cells of a run that has not finished, and check each.

    The rows are those that its command asks for; a folder may have cells of earlier runs.

    Raises:
        BenchError: no cell is stored, one is damaged, or a row does not follow from its records.
    """
    plan = read_planned(folder)
    names = (
        None if plan is None else {cell["cell"]: str(cell.get("checkpoint", "")) for cell in plan["cells"]}
    )
    summary = folder.read_summary_so_far(names)
    for row in summary.to_dict("records"):
        read_checked_records(folder, row)
    return summary


def read_newest_summary(folder: RunFolder, *, finished: bool) -> pd.DataFrame:
    """Read the summary of a run in any state: its table, or its stored cells if these are more.

    Args:
        folder: folder of the run.
        finished: whether the run is complete and no process writes it.

    Raises:
        BenchError: there is neither a table nor a stored cell, or something is damaged.
    """
    if finished or not (folder.path / "summary.parquet").exists():
        return read_checked_summary(folder) if finished else read_checked_summary_so_far(folder)
    plan = read_planned(folder)
    if plan is None:
        return read_checked_summary(folder)
    listed = set(folder.read_summary()["cell"])
    newer = {entry["cell"] for entry in plan["cells"]} & folder.stored() - listed
    return read_checked_summary_so_far(folder) if newer else read_checked_summary(folder)


def check_listed(folder: RunFolder, summary: pd.DataFrame, cells: Sequence[Mapping[str, Any]]) -> None:
    """Check that the rows of a summary are the cells of its manifest, under the same names.

    Raises:
        BenchError: a row is missing, too many, there twice, or has another checkpoint.
    """
    place = folder.path / "summary.parquet"
    again = "the command of the run writes it again from the stored cells"
    named: dict[str, list[str | None]] = {}  # two checkpoints that hold one network share their cells
    for entry in cells:
        named.setdefault(entry["cell"], []).append(entry.get("checkpoint"))
    rows = Counter(zip(summary["cell"], summary["checkpoint"], strict=True))
    for (cell, checkpoint), times in rows.items():
        if cell not in named:
            raise BenchError(f"{place}: row {cell!r} is no cell of the manifest; {again}")
        owners = named[cell]
        if None not in owners and checkpoint not in owners:
            of = " and ".join(str(owner) for owner in owners)
            raise BenchError(
                f"{place}: the checkpoint of row {cell!r} is {checkpoint}, and {of} by the manifest; {again}"
            )
        if times > max(owners.count(checkpoint), 1):
            raise BenchError(f"{place}: row {cell!r} is there twice; {again}")
    listed = Counter(summary["cell"])
    if missing := sum(max(len(owners) - listed[cell], 0) for cell, owners in named.items()):
        raise BenchError(f"{place}: {counted(missing, 'cell')} of the manifest are missing; {again}")


def read_checked_records(folder: RunFolder, row: Mapping[Any, Any]) -> pd.DataFrame:
    """Read the records of a row of the summary that is ok, and check that the row follows from them.

    Raises:
        BenchError: the file is missing or damaged, or the row says something else.
    """
    stored = folder.read_cell(row["cell"])
    if stored is None:
        raise BenchError(f"{folder.path} has no records of cell {row['cell']}; run it again")
    if stored.version_problem:
        raise BenchError(f"{folder.path}, cell {row['cell']}: {stored.version_problem}; run it again")
    try:
        check_stored(stored)
        own = {name: value for name, value in completed(stored).row.items() if name not in _OF_THE_RUN}
        _compare(row, own, "its stored cell")
        if row["status"] == "ok":  # what was sound can have become invalid, by its control, not the reverse
            _compare(row, {"status": stored.row["status"]}, "its stored cell")
    except BenchError as error:
        place = f"{folder.path / 'summary.parquet'}, {row['checkpoint']} {row['perturbation']}"
        raise BenchError(
            f"{place}: {error}; the command of the run writes it again from the stored cells"
        ) from error
    return stored.records


def check_stored(stored: StoredCell) -> None:
    """Check that the row of a stored cell follows from its records.

    Raises:
        BenchError: a number differs from the one that the records give.
    """
    numbers = _numbers(stored.row, stored.records)
    _compare(stored.row, numbers, "its records")
    if stored.row["status"] == "ok":
        _compare(stored.row, {"status": suspicion(numbers) or "ok"}, "its records")


def completed(stored: StoredCell) -> StoredCell:
    """Return a stored cell whose row has the columns that follow from records and were not written then."""
    return stored._replace(row=stored.row | _lacking(stored.row, stored.records))


def _numbers(row: Mapping[Any, Any], records: pd.DataFrame) -> dict[str, float]:
    """Compute the numbers that follow from records by today's rules.

    Intervals over noise of records whose draws are not said to be pairs may be by the rule of an earlier
    version, and are left out.
    """
    numbers = numbers_of(records, str(row["norm"]), float(row["eps"]), samples=int(row["samples"]))
    if records["tries_split"].isna().any() and not is_deterministic(records):
        del numbers["noise_low"], numbers["noise_high"]
    return numbers


def _lacking(row: Mapping[Any, Any], records: pd.DataFrame) -> dict[str, float]:
    """Return the numbers that follow from records and that a row of an earlier version lacks."""
    return {name: value for name, value in _numbers(row, records).items() if _is_absent(row, name)}


def _compare(row: Mapping[Any, Any], expected: Mapping[str, Any], by: str) -> None:
    for name, value in expected.items():
        if not (_is_absent(row, name) or _same(row[name], value)):
            raise BenchError(f"{name} is {_text(row[name])}, and {_text(value)} by {by}")


def _is_absent(row: Mapping[Any, Any], name: str) -> bool:
    """Whether a row is that of a version that did not write this column, which follows from records."""
    return name in _LATER and isinstance(row[name], float) and math.isnan(row[name])


def _same(one: object, other: object) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    first, second = float(one), float(other)  # type: ignore[arg-type]
    close = math.isclose(first, second, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return close or (math.isnan(first) and math.isnan(second))


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]
