"""Attackers who may submit an image again: how many images survive several independent tries."""

import numpy as np
import pandas as pd

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.bounds import survives
from robustbench_sde.evaluation.statistics import Interval, clustered


def survival(records: pd.DataFrame, tries: int) -> Interval:
    """Estimate the accuracy against somebody who submits each image `tries` times and needs one wrong answer.

    Each submission is answered from one fresh draw. From c right ones of the n score draws of an image,
    C(c, k) / C(n, k) is an unbiased estimate of the probability that k draws are all right; the interval is
    over images (clustered). One try is the single-draw accuracy. A deterministic classifier answers every
    try alike.

    Args:
        records: one row per image (`RECORDS`), scored on the `score` stream.
        tries: number of submissions k, from 1 to the score draws.

    Raises:
        BenchError: there are fewer score draws than tries; the message says how many would do.
    """
    if tries < 1:
        raise BenchError(f"`tries` is {tries}; it must be at least 1")
    draws = records["score_draws"].to_numpy(np.int64)
    if (draws == 1).all() and (records["margin_error"] == 0).all():  # deterministic
        return clustered(records["share_correct"].to_numpy(np.float64))
    if draws.min() < tries:
        raise BenchError(
            f"{tries} tries cannot be estimated from {draws.min()} score draws: take {tries} or more"
        )
    right = np.rint(records["share_correct"].to_numpy() * draws).astype(np.int64)
    return clustered(survives(right, draws, tries))
