"""Summarise corruptions: means over corruptions and severities, relative errors and mCE.

Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019. Pure functions of records.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.statistics import (
    Floats,
    Interval,
    clustered,
    expected_calibration_error,
    mean_interval,
    paired,
    undecided,
)
from robustbench_sde.storage.schema import CORRUPTIONS, table

CLEAN = "clean"
MEAN = "mean"


class CorruptionLevel(NamedTuple):
    """One corruption at one severity."""

    corruption: str
    #: severity, 1 to 5; None for a corruption that has none
    severity: int | None


@dataclass(frozen=True)
class CorruptionRecords:
    """Records of a checkpoint by corruption and severity, on the same images; None for an invalid cell."""

    clean: pd.DataFrame | None
    corrupted: Mapping[CorruptionLevel, pd.DataFrame | None]
    #: reason why a cell is invalid
    status: str = "ok"


def corruption_summary(
    measured: Mapping[str, CorruptionRecords], reference: str | None = None
) -> pd.DataFrame:
    """Return one row per condition and for every mean, by the schema `CORRUPTIONS`, for each checkpoint.

    The rows `mean` are plain means over corruptions and severities; where some corruptions have severities
    and others (`gaussian:0.1`) have none, over the former. The same image appears in every cell of a row:
    all intervals are of means of per-image values, images being independent.

    Args:
        measured: records by checkpoint.
        reference: checkpoint whose errors mCE is relative to; its own mCE is 1.
    """
    rows = []
    for name, own in measured.items():
        other = measured[reference] if reference is not None else None
        rows.append({"checkpoint": name, "corruption": CLEAN, "severity": math.nan} | _clean_row(own))
        for corruption, severity, group in _groups(list(own.corrupted)):
            level = math.nan if severity is None else float(severity)
            row = {"checkpoint": name, "corruption": corruption, "severity": level}
            rows.append(row | _row(own, group, other))
    return table(rows, CORRUPTIONS)


def corruption_error(errors: Sequence[Floats], reference: Sequence[Floats]) -> Interval:
    """Return mCE: for each corruption the error over the reference's error, averaged over corruptions.

    The interval is that of the first-order effect of each image on it (delta method), images paired.

    Args:
        errors: for each corruption, (images,): the error of each image, summed over severities.
        reference: errors of the reference, likewise.

    Returns:
        mCE with its interval; NaN if the reference makes no error at a corruption.
    """
    base = [float(values.mean()) for values in reference]
    if 0 in base:
        return Interval(math.nan, math.nan, math.nan)
    ratios = [float(own.mean()) / mean for own, mean in zip(errors, base, strict=True)]
    effects = [
        (own - ratio * other) / mean
        for own, other, ratio, mean in zip(errors, reference, ratios, base, strict=True)
    ]
    estimate = float(np.mean(ratios))
    _, low, high = mean_interval(np.mean(effects, axis=0))
    return Interval(estimate, max(0.0, estimate + low), estimate + high)


def _groups(conditions: list[CorruptionLevel]) -> list[tuple[str, int | None, list[CorruptionLevel]]]:
    """List the rows of a checkpoint: each condition, each corruption, each severity, and all together."""
    groups: list[tuple[str, int | None, list[CorruptionLevel]]] = []
    for corruption in dict.fromkeys(condition.corruption for condition in conditions):
        own = [condition for condition in conditions if condition.corruption == corruption]
        groups += [(*condition, [condition]) for condition in own]
        if len(own) > 1:
            groups.append((corruption, None, own))
    graded = [condition for condition in conditions if condition.severity is not None]
    for severity in sorted({condition.severity for condition in graded if condition.severity is not None}):
        groups.append((MEAN, severity, [condition for condition in graded if condition.severity == severity]))
    return [*groups, (MEAN, None, graded or conditions)]


def _clean_row(own: CorruptionRecords) -> dict[str, object]:
    if own.clean is None:
        return _blank(own.status)
    return _blank("ok") | _numbers([own.clean])


def _row(
    own: CorruptionRecords, group: list[CorruptionLevel], reference: CorruptionRecords | None
) -> dict[str, object]:
    cells = [own.corrupted[condition] for condition in group]
    present = [cell for cell in cells if cell is not None]
    if len(present) < len(cells):
        return _blank(own.status)
    row = _blank("ok") | _numbers(present)
    if own.clean is not None:
        error = np.mean([_errors(cell) for cell in present], axis=0)
        row |= _columns("relative", paired(error - _errors(own.clean)), "relative_error")
    others = [] if reference is None else [reference.corrupted.get(condition) for condition in group]
    if others and all(other is not None for other in others):
        names = [condition.corruption for condition in group]
        theirs = [other for other in others if other is not None]
        row |= _columns("ce", corruption_error(_by_name(names, present), _by_name(names, theirs)), "ce")
    return row


def _numbers(cells: list[pd.DataFrame]) -> dict[str, object]:
    shares = [cell["share_correct"].to_numpy() for cell in cells]
    correct = [cell["correct"].to_numpy(dtype=np.bool_) for cell in cells]
    calibration = [
        expected_calibration_error(cell["confidence"].to_numpy(), right)
        for cell, right in zip(cells, correct, strict=True)
    ]
    return {
        "images": len(cells[0]),
        "cells": len(cells),
        **_columns("accuracy", clustered(np.mean(correct, axis=0)), "accuracy"),
        **_columns("single_draw", clustered(np.mean(shares, axis=0)), "single_draw_accuracy"),
        "undecided": float(np.mean([undecided(share) for share in shares])),
        "ece": float(np.mean(calibration)),
        "brier": float(np.mean([cell["brier"].mean() for cell in cells])),
    }


def _columns(prefix: str, interval: Interval, estimate: str) -> dict[str, object]:
    return {estimate: interval.estimate, f"{prefix}_low": interval.low, f"{prefix}_high": interval.high}


def _errors(records: pd.DataFrame) -> Floats:
    return 1.0 - records["correct"].to_numpy(dtype=np.float64)


def _by_name(names: list[str], cells: list[pd.DataFrame]) -> list[Floats]:
    """Sum the errors of each image over the cells of a corruption, for each corruption in order."""
    sums: dict[str, Floats] = {}
    for name, cell in zip(names, cells, strict=True):
        sums[name] = sums.get(name, np.zeros(len(cell))) + _errors(cell)
    return list(sums.values())


def _blank(status: str) -> dict[str, object]:
    numberless: dict[str, object] = {
        column.name: math.nan for column in CORRUPTIONS if column.dtype == "float64"
    }
    for name in ("checkpoint", "corruption", "severity"):
        numberless.pop(name, None)
    return numberless | {"images": 0, "cells": 0, "status": status}
