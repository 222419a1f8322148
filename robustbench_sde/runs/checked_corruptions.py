"""Read the table of corruptions of a run only after computing it again from the records of its cells."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.corruption_summary import (
    CorruptionLevel,
    CorruptionRecords,
    corruption_summary,
)
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import TableRow

#: columns of the summary that, with the checkpoint, make one block of the table
_BLOCK = ["checkpoint", "noise", "sigma", "solver", "solver_steps", "score_draws", "rule", "seed"]
#: numbers differ by no more when they are computed again from a text
_ROUNDING = 1e-9


def read_checked_corruptions(folder: RunFolder, summary: pd.DataFrame) -> pd.DataFrame | None:
    """Read `corruptions.csv` and compare it with what the records give; None without that file.

    A table that is as the run has written it, like all its cells, is not compared once more.

    Args:
        folder: of the run.
        summary: its summary, which has been checked.

    Raises:
        BenchError: the file is damaged, or says something else.
    """
    told = folder.read_corruptions()
    if told is None or folder.has_unchanged_corruptions():
        return told
    measured = _measured(folder, summary)
    names = list(told["checkpoint"].unique())
    known = set(summary["checkpoint"])
    if all(name in known or name.partition(" ")[0] in known for name in names):
        if len(names) != len(measured):  # settings that no column of the summary tells apart
            return told
        found = dict(zip(names, measured, strict=True))  # the order of both is that of the cells
        if any(_same(told, corruption_summary(found, name)) for name in _references(told)):
            return told
    raise BenchError(
        f"{folder.path / 'corruptions.csv'} does not follow from the records of the run; the command of the "
        "run writes it again from the stored cells"
    )


def _references(told: pd.DataFrame) -> Iterator[str | None]:
    """Yield checkpoints that errors may be relative to: those whose own relative error is 1."""
    if told["ce"].isna().all():
        yield None
    for name, rows in told.groupby("checkpoint", sort=False):
        ones = rows["ce"].dropna()
        if len(ones) and bool(np.isclose(ones, 1).all()):
            yield str(name)


def _measured(folder: RunFolder, summary: pd.DataFrame) -> list[CorruptionRecords]:
    plain = summary[(summary["norm"] == "") & ~summary["perturbation"].isin(["control", "given"])]
    blocks = []
    for _, rows in plain.groupby(_BLOCK, sort=False, dropna=False):
        faults = [status for status in rows["status"] if status != "ok"]
        records = {
            _level(row): folder.read_records(row["cell"]) if row["status"] == "ok" else None
            for row in rows.to_dict("records")
        }
        clean = records.pop(CorruptionLevel("clean", None), None)
        if records:
            blocks.append(CorruptionRecords(clean, records, faults[0] if faults else "ok"))
    return blocks


def _level(row: TableRow) -> CorruptionLevel:
    severity = float(row["severity"])
    return CorruptionLevel(str(row["perturbation"]), None if math.isnan(severity) else int(severity))


def _same(told: pd.DataFrame, found: pd.DataFrame) -> bool:
    if list(told.columns) != list(found.columns) or len(told) != len(found):
        return False
    for name in told.columns:
        one, other = told[name].to_numpy(), found[name].to_numpy()
        if one.dtype.kind == "f":
            if not np.allclose(one, other, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True):
                return False
        elif not (told[name].astype(str) == found[name].astype(str)).all():
            return False
    return True
