"""Check the records of a cell among themselves, and know them again."""

import hashlib

import numpy as np
import pandas as pd

from robustbench_sde.errors import BenchError

_SHARES = ("share_correct", "label_probability", "confidence")
_SIZES = ("image_id", "brier", "linf", "l2", "forward_passes", "backward_passes", "eot_draws")
#: Sums of probabilities may leave [0, 1] by rounding.
_ROUNDING = 1e-5


def check_records(records: pd.DataFrame) -> None:
    """Check what must be true of all records (`RECORDS`), whatever made them.

    Raises:
        BenchError: an image is there twice, `correct` is not `prediction == label` or contradicts `margin`, a
            share is not in [0, 1], a size is negative or a target no class; names the first image.
    """
    ids = records["image_id"]
    margin, correct = records["margin"], records["correct"]
    right = records["prediction"] == records["label"]
    faults = {
        "is there twice": ids.duplicated(),
        "is correct, or not, against its prediction": correct != right,
        "is correct, or not, against its margin": ~(margin.where(correct, -margin) >= 0),
    }
    for name in _SHARES:
        inside = (records[name] >= -_ROUNDING) & (records[name] <= 1 + _ROUNDING)
        faults[f"has a {name} outside of 0 to 1"] = ~inside
    for name in _SIZES:
        faults[f"has a negative {name}"] = ~(records[name] >= 0)
    target = records["target"]
    faults["has a target that is no class"] = ~(target.isna() | ((target >= 0) & (target % 1 == 0)))
    if "tries" in records:  # NaN where a version did not write them
        faults["has more right answers than answers"] = records["tries_right"] > records["tries"]
        if "tries_split" in records:
            faults["has more split pairs than right answers"] = (
                records["tries_split"] > records["tries_right"]
            )
        faults["has more answers than score draws"] = records["tries"] > records["score_draws"]
    for fault, where in faults.items():
        if where.any():
            raise BenchError(f"image {ids[where].iloc[0]} {fault}")


def digest_of(records: pd.DataFrame) -> str:
    """Hash all values of records (`RECORDS`), so that a change of any of them is noticed."""
    digest = hashlib.sha256()
    for name, values in records.items():
        if name == "target" and values.isna().all():  # files of earlier versions have no such column
            continue
        digest.update(str(name).encode())
        if pd.api.types.is_numeric_dtype(values.dtype):
            numbers = values.to_numpy()
            if numbers.dtype.kind == "f":  # a file keeps one NaN of the many that there are
                numbers = np.where(np.isnan(numbers), np.nan, numbers).astype(numbers.dtype)
            digest.update(np.ascontiguousarray(numbers).tobytes())
        else:
            digest.update("\0".join(map(str, values)).encode())
    return digest.hexdigest()
