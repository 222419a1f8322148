"""Bounds that hold for any number of draws: of a share of votes, and of a mean of values in [0, 1].

Pure functions of numbers, without input or output; docs/certificates.md says which certificate uses which.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from robustbench_sde.evaluation.statistics import Interval


def clopper_pearson_low(successes: int, trials: int, alpha: float) -> float:
    """Return the exact lower bound of a probability; it is too high with probability at most `alpha`.

    Clopper & Pearson 1934: the smallest p under which so many successes or more have probability `alpha`.

    Args:
        successes: trials with the outcome, 0 to `trials`.
        trials: independent trials, at least 1.
        alpha: error probability, in (0, 1).
    """
    from scipy.stats import beta  # slow to import, and stored tables rarely need it

    return 0.0 if successes == 0 else float(beta.ppf(alpha, successes, trials - successes + 1))


def clopper_pearson_high(successes: int, trials: int, alpha: float) -> float:
    """Return the exact upper bound of a probability; it is too low with probability at most `alpha`."""
    return 1.0 - clopper_pearson_low(trials - successes, trials, alpha)


def clopper_pearson(successes: int, trials: int, alpha: float = 0.05) -> Interval:
    """Return a share with its exact two-sided interval at level 1 - `alpha` (Clopper & Pearson 1934)."""
    low = clopper_pearson_low(successes, trials, alpha / 2)
    return Interval(successes / trials, low, clopper_pearson_high(successes, trials, alpha / 2))


def bernstein_low(mean: float, variance: float, count: int, alpha: float) -> float:
    """Return a lower bound of the mean of values in [0, 1]; it is too high with probability at most `alpha`.

    Empirical Bernstein bound of Maurer & Pontil, "Empirical Bernstein Bounds and Sample Variance
    Penalization", COLT 2009, Theorem 4. It holds for every distribution on [0, 1].

    Args:
        mean: mean of the values.
        variance: their sample variance, with count - 1 in the denominator.
        count: number of independent values, at least 2.
        alpha: error probability, in (0, 1).
    """
    return max(0.0, mean - _bernstein_width(variance, count, alpha))


def bernstein_high(mean: float, variance: float, count: int, alpha: float) -> float:
    """Return an upper bound of the mean of values in [0, 1]; arguments as in `bernstein_low`."""
    return min(1.0, mean + _bernstein_width(variance, count, alpha))


def _bernstein_width(variance: float, count: int, alpha: float) -> float:
    logarithm = math.log(2 / alpha)
    return math.sqrt(2 * variance * logarithm / count) + 7 * logarithm / (3 * (count - 1))


def certified_radius(p_low: float, sigma: float) -> float:
    """Return the L2 radius in which the smoothed decision is constant; 0 if `p_low` is 1/2 or less.

    sigma * Phi^-1(p_low): Cohen, Rosenfeld & Kolter, ICML 2019, Theorem 1 with p_B = 1 - p_A, for the share
    of votes; Salman et al., NeurIPS 2019, and Levine et al. 2019 for the mean probability.

    Args:
        p_low: lower bound of the vote share or mean probability of the predicted class, in [0, 1].
        sigma: standard deviation of the noise on the image, in units of images in [0, 1].
    """
    return max(0.0, sigma * float(ndtri(p_low)))


def needed_probability(radius: float, sigma: float) -> float:
    """Return the probability that `certified_radius` turns into `radius`: 1/2 for radius 0."""
    return float(ndtr(radius / sigma))


def survives(
    right: npt.NDArray[np.int64], draws: npt.NDArray[np.int64], tries: int
) -> npt.NDArray[np.float64]:
    """Estimate for each image the probability that `tries` independent submissions are all answered rightly.

    The estimator C(c, k) / C(n, k) from c right ones of n draws is unbiased: it is the share of subsets of k
    draws that hold no wrong one (Halmos 1946; the complement of pass@k of Chen et al. 2021).

    Args:
        right: (images,) draws that give the label.
        draws: (images,) draws made, each at least `tries`.
        tries: submissions k, at least 1.
    """
    steps = np.arange(tries)
    remaining = np.clip(right[:, None] - steps, 0, None) / (draws[:, None] - steps)
    product: npt.NDArray[np.float64] = remaining.prod(1)
    return product
