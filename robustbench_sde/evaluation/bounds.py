"""Bounds that hold for any number of draws: of a share of votes, and of a mean of values in [0, 1].

Pure functions of numbers, without input or output; docs/certificates.md says which certificate uses which.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtr, ndtri

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


def high_of_pairs(successes: int, draws: int, alpha: float) -> float:
    """Return an upper bound of a probability from draws in pairs; it is too low with probability <= `alpha`.

    Bentkus, "On Hoeffding's inequalities", Annals of Probability 32 (2004), Theorem 1.2: a sum of independent
    values in [0, 1], here the shares of pairs with the outcome, is so small with at most e times the
    probability of a binomial number with the same mean. It holds however the draws of a pair depend on each
    other. A last draw without a partner counts as a pair of two such draws.

    Args:
        successes: draws with the outcome, 0 to `draws`.
        draws: draws, of which two consecutive ones are a pair; at least 1.
        alpha: error probability, in (0, 1).
    """
    pairs = (draws + 1) // 2
    most = min(pairs, (successes + draws % 2 + 1) // 2)
    return clopper_pearson_high(most, pairs, alpha / math.e)


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
    right: npt.NDArray[np.int64],
    draws: npt.NDArray[np.int64],
    tries: int,
    split: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """Estimate for each image the probability that `tries` independent submissions are all answered rightly.

    The estimator C(c, k) / C(n, k) from c right ones of n draws is unbiased: it is the share of subsets of k
    draws that hold no wrong one (Halmos 1946; the complement of pass@k of Chen et al. 2021). Two consecutive
    draws may be a pair, and depend on each other. Only pairs are independent then, and the estimator is the
    mean, over subsets of k pairs, of the product of their shares of right draws.

    Args:
        right: (images,) draws that give the label.
        draws: (images,) draws made, each at least `tries`; of pairs, at least 2 `tries` - 1 for two or more.
        tries: submissions k, at least 1.
        split: (images,) pairs of which exactly one draw gives the label; None if all draws are independent.
    """
    if split is not None and tries > 1:
        return _survives_by_pairs(right, draws, tries, split)
    steps = np.arange(tries)
    remaining = np.clip(right[:, None] - steps, 0, None) / (draws[:, None] - steps)
    product: npt.NDArray[np.float64] = remaining.prod(1)
    return product


def _survives_by_pairs(
    right: npt.NDArray[np.int64], draws: npt.NDArray[np.int64], tries: int, split: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Compute the mean over subsets of `tries` pairs of the product of their shares of right draws.

    It is an elementary symmetric polynomial of shares 0, 1/2 and 1. A last draw without a partner is a pair
    by itself, of share 0 or 1.
    """
    pairs = (draws + 1) // 2
    whole = (right - split + draws % 2) // 2  # pairs that are right in full, and the last draw if it is
    total = np.zeros(len(right))
    for halves in range(tries + 1):
        total += np.exp(_log_choose(whole, tries - halves) + _log_choose(split, halves)) * 0.5**halves
    result: npt.NDArray[np.float64] = total / np.exp(_log_choose(pairs, tries))
    return result


def _log_choose(of: npt.NDArray[np.int64], chosen: int) -> npt.NDArray[np.float64]:
    """Return the logarithm of binomial coefficients; -inf where fewer than `chosen` are there."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = gammaln(of + 1) - gammaln(chosen + 1) - gammaln(of - chosen + 1)
    result: npt.NDArray[np.float64] = np.where(of >= chosen, logarithm, -np.inf)
    return result
