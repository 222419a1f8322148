"""Intervals of estimates: pure functions of numbers, without input or output."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, stdtr

#: Two-sided 95 % point of the normal distribution.
Z95 = 1.959963984540054

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Estimate with its 95 % interval; all three are in [0, 1] for a share."""

    estimate: float
    low: float
    high: float


def wilson(estimate: float, size: float) -> Interval:
    """Return the score interval of a proportion (Wilson 1927) from `size` independent trials (size > 0)."""
    z2 = Z95**2
    centre = (estimate + z2 / (2 * size)) / (1 + z2 / size)
    half = Z95 / (1 + z2 / size) * math.sqrt(estimate * (1 - estimate) / size + z2 / (4 * size**2))
    return Interval(estimate, max(0.0, min(estimate, centre - half)), min(1.0, max(estimate, centre + half)))


def clustered(shares: Floats) -> Interval:
    """Return the interval of the mean of per-image shares: images are independent, draws of an image are not.

    It is Wilson's interval at the effective sample size p(1-p) / Var(mean) (design effect; Korn & Graubard
    1998), which is never smaller than the number of images.

    Args:
        shares: (images,) share of draws with the outcome, for each image.
    """
    count, mean = len(shares), float(shares.mean())
    if count < 2 or mean in (0.0, 1.0):
        return wilson(mean, count)
    variance = float(shares.var(ddof=1)) / count
    binomial = mean * (1 - mean)
    return wilson(mean, count if variance == 0 else max(count, binomial / variance))


def clustered_of_few(shares: Floats) -> Interval:
    """Return the interval of the mean of per-image shares that also holds where few images make the mean.

    Of shares that are nearly all close to 0 (or to 1) the sample variance misses the rare others, and
    `clustered` covers too seldom. One more image of 1 and one of 0 in the variance keep the effective sample
    size from running away (as Bonett & Price 2012 do for differences).

    Args:
        shares: (images,) share of the outcome, for each image.
    """
    more = np.append(shares, (0.0, 1.0))
    centre = float(more.mean())
    effective = len(shares) * centre * (1 - centre) / float(more.var())
    return wilson(float(shares.mean()), max(len(shares), effective))


def share_interval(
    shares: Floats, draws: int, *, exact: bool = False, paired: bool = True
) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % interval of each image's probability (Clopper & Pearson 1934).

    Independent draws have the exact interval. Two draws of a pair may be one and the same answer: they count
    as one trial, whose outcome is 0, 1/2 or 1, in the same formula. It covers at least as often as the exact
    interval however the draws of a pair depend on each other (`benchmarks/noise_intervals.py`).

    Args:
        shares: (images,) share of the draws with the outcome.
        draws: number of draws of an image.
        exact: whether shares are known without error, as those of a deterministic classifier.
        paired: False if all draws are independent.
    """
    if exact:
        return shares, shares
    trials = draws / 2 if paired and draws > 1 else draws
    right = np.rint(shares * draws) * (trials / draws)
    tail, least = (1 - 0.95) / 2, trials / draws
    low = np.where(right == 0, 0.0, betaincinv(np.maximum(right, least), trials - right + 1, tail))
    high = np.where(right == trials, 1.0, betaincinv(right + 1, np.maximum(trials - right, least), 1 - tail))
    return low, high


def undecided(shares: Floats) -> float:
    """Return the share of images on which draws disagree: between 5 and 95 % of them give the label."""
    return float(((shares > 0.05) & (shares < 0.95)).mean())


def mean_interval(values: Floats) -> Interval:
    """Return the mean of independent values with its normal interval; NaN limits for a single value."""
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Interval(mean, mean - Z95 * error, mean + Z95 * error)


def mean_over_draws(values: Floats) -> Interval:
    """Return the mean of all values, with the normal interval over fresh draws on the same images.

    Images are strata: only the spread of an image's draws counts. NaN limits for a single draw.

    Args:
        values: (draws, images), independent of each other.
    """
    draws, images = values.shape
    mean = float(values.mean())
    error = math.sqrt(float(values.var(0, ddof=1).sum()) / draws) / images if draws > 1 else math.nan
    return Interval(mean, mean - Z95 * error, mean + Z95 * error)


def paired(differences: Floats) -> Interval:
    """Return the mean of per-image differences in [-1, 1] with its interval; images are independent.

    Adjusted Wald: one more image of +1 and one of -1 keep the interval from vanishing if no image differs
    (Bonett & Price 2012, for the difference of paired proportions).
    """
    more = np.append(differences, (1.0, -1.0))
    centre, half = float(more.mean()), Z95 * float(more.std()) / math.sqrt(len(more))
    return Interval(float(differences.mean()), max(-1.0, centre - half), min(1.0, centre + half))


def expected_calibration_error(confidence: Floats, correct: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """Return the mean gap between accuracy and confidence over equal bins of confidence, weighted by size.

    Bins are ((k - 1) / bins, k / bins], as in Guo et al., "On Calibration of Modern Neural Networks",
    ICML 2017, eq. 3.

    Args:
        confidence: (images,) in [0, 1].
        correct: (images,) decisions.
    """
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def over_noise(
    margins: Floats, errors: Floats, correct: npt.NDArray[np.bool_], freedom: Floats | float = math.inf
) -> Interval:
    """Return the interval of the accuracy that fresh score draws would give on the same images.

    Draws decide an image one way with probability q and the other way with 1 - q, so that the accuracy has
    the variance sum q (1 - q) / n^2. An estimate of q from the image's own margin is too sure at a boundary:
    there, the two-sided p-value u of Student's t = margin / error is uniform, whatever the number of draws,
    and 3/4 u^2 has the mean 1/4 = q (1 - q). Away from the boundary its mean is somewhat larger than
    q (1 - q). How often the interval covers: `benchmarks/noise_intervals.py`.

    Args:
        margins: (images,) statistic of the decision rule, > 0 for a right decision.
        errors: (images,) standard error of the margin; NaN if unknown (fewer than two pairs of draws).
        correct: (images,) decisions made.
        freedom: degrees of freedom of the errors, at least 1: pairs of draws less 1.

    Returns:
        The observed accuracy, with NaN limits if an error is unknown.
    """
    accuracy = float(correct.mean())
    if np.isnan(errors).any():
        return Interval(accuracy, math.nan, math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(errors > 0, 2 * stdtr(freedom, -np.abs(margins / errors)), 0.0)
    half = Z95 * math.sqrt(float((0.75 * np.square(p)).sum())) / len(p)
    return Interval(accuracy, max(0.0, accuracy - half), min(1.0, accuracy + half))
