"""Compute the numbers of a row from its records, and whether they may be used; torch is not needed."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.distances import fooled_distances
from robustbench_sde.evaluation.random_points import random_numbers
from robustbench_sde.evaluation.statistics import (
    Floats,
    clustered,
    expected_calibration_error,
    over_noise,
    undecided,
    wilson,
)
from robustbench_sde.evaluation.tries import survival_numbers
from robustbench_sde.storage.schema import GRADIENT_SIGNS, TARGETED

#: Share of images with a gradient that is zero or not finite; above it a row is suspect.
SUSPECT_SHARE = 0.05


def numbers_of(records: pd.DataFrame, norm: str, eps: float, *, samples: int = 0) -> dict[str, float]:
    """Compute all columns of the summary that follow from the records of a cell.

    Args:
        records: one row per image (`RECORDS`).
        norm: `linf`, `l2` or empty, as in the cell's row.
        eps: its budget; NaN with a norm is a search for the smallest change, which has distances.
        samples: number of random points of each image that were scored; 0: other rows.
    """
    found = summarise(records)
    if norm and math.isnan(eps):
        found |= _distance_quartiles(records, norm)
    return found | {
        "forward_passes": float(records["forward_passes"].mean()),
        "backward_passes": float(records["backward_passes"].mean()),
        "eot_draws": float(records["eot_draws"].mean()),
        **{name: _share_with(records[name], eps) for name in GRADIENT_SIGNS},
        **_success(records, eps),
        **(random_numbers(records) if samples else {}),
    }


def _success(records: pd.DataFrame, eps: float) -> dict[str, float]:
    """Compute the columns of targeted attacks; NaN without a target, for the control, and without images."""
    aimed = records["target"].notna() & (records["target"] != records["label"])
    if not records["target"].notna().any() or eps == 0:
        return dict.fromkeys(TARGETED, math.nan)
    count = int(aimed.sum())
    found = {"target_images": float(count)}
    if not count:
        return dict.fromkeys(TARGETED, math.nan) | found
    reached = (records["prediction"] == records["target"])[aimed]
    share = wilson(float(reached.mean()), count)
    return found | {
        "target_success": share.estimate,
        "target_low": share.low,
        "target_high": share.high,
    }


def _share_with(shares: "pd.Series[float]", eps: float) -> float:
    """Compute the share of images with any such gradient; NaN without gradients, and for the control."""
    counted = shares.notna()
    return float((shares[counted] > 0).sum() / len(shares)) if counted.any() and eps != 0 else math.nan


def suspicion(row: Mapping[str, Any]) -> str:
    """Say why the numbers of a row could be wrong, as its status; empty if nothing speaks against them.

    A saturated loss is no reason: it is replaced (docs/protocol.md).
    """
    for name, what in (
        ("gradients_zero", "zero everywhere"),
        ("gradients_not_finite", "not finite"),
        ("gradients_misleading", "misleading (along them the loss falls)"),
    ):
        if row[name] > SUSPECT_SHARE:
            return (
                f"suspect: gradients of {row[name]:.0%} of the images are {what} at least once, so that the "
                "attack may be weaker than it looks; see `sde-bench audit`"
            )
    return ""


def has_numbers(status: str) -> bool:
    """Whether a row with this status has numbers: it is ok, or suspect, which `suspicion` says."""
    return status == "ok" or status.startswith("suspect:")


def _distance_quartiles(records: pd.DataFrame, norm: str) -> dict[str, float]:
    """Compute the quartiles of the distance at which images are fooled."""
    q25, median, q75 = np.quantile(fooled_distances(records, norm), (0.25, 0.5, 0.75), method="higher")
    return {"distance_q25": float(q25), "distance_median": float(median), "distance_q75": float(q75)}


def summarise(records: pd.DataFrame) -> dict[str, float]:
    """Return the accuracy columns of the `SUMMARY` schema from the records of a cell."""
    correct = records["correct"].to_numpy(dtype=np.bool_)
    shares = records["share_correct"].to_numpy()
    accuracy = wilson(float(correct.mean()), len(records))
    noise = over_noise(
        records["margin"].to_numpy(), records["margin_error"].to_numpy(), correct, _freedom(records)
    )
    single = clustered(shares)
    return {
        "images": len(records),
        "mean_score_draws": float(records["score_draws"].mean()),
        "accuracy": accuracy.estimate,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "noise_low": noise.low,
        "noise_high": noise.high,
        "single_draw_accuracy": single.estimate,
        "single_draw_low": single.low,
        "single_draw_high": single.high,
        **survival_numbers(records),
        "undecided": undecided(shares),
        "ece": expected_calibration_error(records["confidence"].to_numpy(), correct),
        "brier": float(records["brier"].mean()),
    }


def _freedom(records: pd.DataFrame) -> Floats:
    """Return the degrees of freedom of `margin_error`: pairs of draws less 1; (images,), at least 1."""
    freedom: Floats = np.maximum(1, records["score_draws"].to_numpy(np.float64) // 2 - 1)
    return freedom


def certified_at(records: pd.DataFrame, radius: float) -> pd.Series:
    """Whether each image is certified within a closed ball of this radius, and right: bool."""
    return records["correct"] & (records["radius"] > radius)
