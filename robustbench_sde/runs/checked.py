"""Read the summary of a run only after checking that it follows from the records of its cells."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.cell import numbers_of
from robustbench_sde.storage.cell_file import StoredCell
from robustbench_sde.storage.run_folder import RunFolder

#: columns that a cell's file does not decide: names of today, and whether the run may be used
_OF_THE_RUN = ("checkpoint", "dataset", "status", "seconds")
#: numbers differ by no more when they are computed again
_ROUNDING = 1e-9


def read_checked_summary(folder: RunFolder) -> pd.DataFrame:
    """Read the summary of a run; every row that is ok is compared with the stored cell.

    Raises:
        BenchError: there is none, a file is missing or damaged, or a row does not follow from its records.
    """
    summary = folder.read_summary()
    for row in summary[summary["status"] == "ok"].to_dict("records"):
        read_checked_records(folder, row)
    return summary


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
        own = {name: stored.row[name] for name in stored.row if name not in _OF_THE_RUN}
        _compare(row, own, "its stored cell")
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
    row = stored.row
    _compare(row, numbers_of(stored.records, str(row["norm"]), float(row["eps"])), "its records")


def _compare(row: Mapping[Any, Any], expected: Mapping[str, Any], by: str) -> None:
    for name, value in expected.items():
        if not _same(row[name], value):
            raise BenchError(f"{name} is {_text(row[name])}, and {_text(value)} by {by}")


def _same(one: object, other: object) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    first, second = float(one), float(other)  # type: ignore[arg-type]
    close = math.isclose(first, second, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return close or (math.isnan(first) and math.isnan(second))


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]
