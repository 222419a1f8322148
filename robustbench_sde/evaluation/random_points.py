"""Probabilistic robustness: what random perturbations do, from draws that each saw another random point."""

import numpy as np
import pandas as pd

from robustbench_sde.evaluation.bounds import clopper_pearson_high, clopper_pearson_low
from robustbench_sde.evaluation.statistics import Interval, clustered_of_few, share_interval
from robustbench_sde.storage.schema import REACHED

#: error probability of each end: over images in `reaching`, and of each image in `share_interval`
_TAIL = 0.025


def random_numbers(records: pd.DataFrame) -> dict[str, float]:
    """Return the columns `random_accuracy` and `reaches_P` of the `SUMMARY` schema.

    Args:
        records: one row per image (`RECORDS`), each draw scored at a random point of its own.
    """
    draws = int(records["score_draws"].iloc[0])
    right = np.rint(records["share_correct"].to_numpy(np.float64) * draws).astype(np.int64)
    mean = clustered_of_few(right / draws)
    numbers = {"random_accuracy": mean.estimate, "random_low": mean.low, "random_high": mean.high}
    for percent in REACHED:
        share = reaching(right, draws, percent / 100)
        name = f"reaches_{percent}"
        numbers |= {name: share.estimate, f"{name}_low": share.low, f"{name}_high": share.high}
    return numbers


def reaching(right: "np.ndarray[tuple[int], np.dtype[np.int64]]", samples: int, level: float) -> Interval:
    """Return the share of images whose probability of a right answer is at least `level`.

    The estimate is the share of images with at least so many right samples. Its 95 % interval holds for
    images and samples together, whatever the probabilities: an image is counted for the lower end if its
    exact lower bound (Clopper & Pearson 1934, error a = .025) reaches the level, for the upper end if its
    exact upper bound does. If S is the true share, the expected share counted below is at most S + a (1 - S),
    and the one counted above at least S (1 - a); exact bounds of these two (error .025 each) are solved
    for S.

    Args:
        right: (images,) right samples of each image.
        samples: samples of each image, independent of each other.
        level: probability that is asked for, in (0, 1).
    """
    images = len(right)
    low, high = share_interval(right / samples, samples, paired=False)
    below = clopper_pearson_low(int((low >= level).sum()), images, _TAIL)
    above = clopper_pearson_high(int((high >= level).sum()), images, _TAIL)
    # 1e-9: a share of .9 is 90 of 100 whatever floats say
    estimate = float((right >= level * samples - 1e-9).mean())
    return Interval(estimate, max(0.0, (below - _TAIL) / (1 - _TAIL)), min(1.0, above / (1 - _TAIL)))
