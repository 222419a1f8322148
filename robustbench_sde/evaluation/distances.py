"""Minimal-norm attacks: how far images have to be moved, and the accuracy left at each distance."""

import math

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.statistics import Floats, wilson

#: Largest number of points of a curve: enough for any figure, few enough for a table.
MOST_POINTS = 201


def fooled_distances(records: pd.DataFrame, norm: str) -> Floats:
    """Return the distance at which each image is fooled, (images,); infinity for one that still stands."""
    return np.where(records["correct"], math.inf, records[norm])


def accuracy_by_distance(records: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Return the accuracy left at each distance that every image may be moved, with Wilson's interval.

    The curve is a step function: it falls at the distances of the rows, at most `MOST_POINTS` of them. The
    first row is distance 0. There, for a deterministic model, it has the accuracy of clean images; for a
    random model it may be higher: the attack also moves images that are wrong by less than its `z`.

    Args:
        records: records of a cell with a minimal-norm attack (`storage.schema.RECORDS`).
        norm: `linf` or `l2`.

    Returns:
        Columns `distance`, `accuracy`, `accuracy_low`, `accuracy_high`.
    """
    distances = np.sort(fooled_distances(records, norm))
    levels = np.unique(np.append(0.0, distances[np.isfinite(distances)]))
    if len(levels) > MOST_POINTS:
        levels = levels[np.linspace(0, len(levels) - 1, MOST_POINTS).round().astype(int)]
    left = 1 - np.searchsorted(distances, levels, side="right") / len(distances)
    rows = [(level, *wilson(float(share), len(distances))) for level, share in zip(levels, left, strict=True)]
    return pd.DataFrame(rows, columns=["distance", "accuracy", "accuracy_low", "accuracy_high"])
