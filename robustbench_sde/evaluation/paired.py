"""Statistics of the same images under two models: pure functions of numbers, no I/O, no randomness.

A *drop* is the accuracy that the run has lost against the baseline: above 0 is worse. Images are independent,
draws of one image are not: an image is the unit of every test.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import bdtrc, ndtri
from scipy.stats import binom, norm

from robustbench_sde.evaluation.statistics import Interval

#: Probability with which a detectable drop is found.
POWER = 0.8
#: Largest number of images that is recommended.
MOST_IMAGES = 10_000_000

#: Longest sum whose distribution is computed exactly; a longer one is close enough to normal.
_LONGEST_SUM = 2**22
#: numbers of discordant images whose critical values are computed and kept together
_BLOCK = 256

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def sign_flip_test(differences: Ints) -> float:
    """Return the exact two-sided p-value of "each image's difference is as likely as its negative".

    This is the permutation test that swaps the two models in any subset of the images, over all 2^n subsets:
    the characteristic function of the sum of +-d_i is a product, and one Fourier transform of it gives every
    probability. With differences -1, 0, 1 it is the exact McNemar test (McNemar 1947), the binomial one.

    Args:
        differences: (images,) whole numbers, like right draws of the one model less those of the other.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    unit = np.gcd.reduce(sizes)
    sizes, observed = sizes // unit, abs(int(differences.sum() // unit))
    # sum of +-d_i = 2 X - total, where X is the sum of the sizes whose sign is +
    total = int(sizes @ counts)
    if len(sizes) == 1:
        return min(1.0, 2 * float(binom.sf((total + observed) // 2 - 1, total, 0.5)))
    if total > _LONGEST_SUM:
        return 2 * float(norm.sf(observed / math.sqrt(float(np.square(sizes, dtype=float) @ counts))))
    angles = 2 * np.pi / (total + 1) * np.arange((total + 1) // 2 + 1)
    transform = np.ones(len(angles), dtype=np.complex128)
    for size, count in zip(sizes, counts, strict=True):
        transform *= (0.5 + 0.5 * np.exp(-1j * size * angles)) ** int(count)
    probabilities = np.fft.irfft(transform, total + 1)
    return float(np.clip(2 * probabilities[(total + observed) // 2 :].sum(), 0.0, 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values (Holm 1979).

    Rejecting those up to alpha makes one or more false rejections with a probability of at most alpha.
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


@functools.lru_cache(maxsize=4096)  # of many cells most have lost and won the same few images
def drop_of_decisions(lost: int, won: int, images: int, alpha: float) -> Interval:
    """Return the drop (lost - won) / images of paired decisions with its 1 - alpha score interval.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998): it keeps its level even if few images, or none, have changed.

    Args:
        lost: number of images right in the baseline and wrong in the run.
        won: number of images wrong in the baseline and right in the run.
        images: number of all images, changed or not (at least 1).
        alpha: probability that the true drop is outside.
    """
    z = float(ndtri(1 - alpha / 2))
    return Interval(
        (lost - won) / images, -_tango_upper(won, lost, images, z), _tango_upper(lost, won, images, z)
    )


def images_without_change(drop: float, alpha: float = 0.05) -> int:
    """Return the number of paired images that exclude a drop if the result of none of them changes.

    Args:
        drop: drop as a share, above 0 and below 1.
        alpha: 1 minus the level of the interval.

    Source: Tango (1998), whose upper limit without changes is z^2 / (n + z^2).
    """
    squared = float(ndtri(1 - alpha / 2)) ** 2
    return math.ceil(squared * (1 - drop) / drop - 1e-9)


def _tango_upper(lost: int, won: int, images: int, z: float) -> float:
    """Return the largest drop d that the score test of "the drop is d" does not reject."""

    def excess(d: float) -> float:
        # q: the share won under the hypothesis, by maximum likelihood (Tango's equation 12)
        b = (2 * images - lost + won) * d - lost - won
        q = (math.sqrt(max(0.0, b * b + 8 * images * won * d * (1 - d))) - b) / (4 * images)
        return lost - won - images * d + z * math.sqrt(max(0.0, images * (2 * q + d * (1 - d))))

    start = (lost - won) / images + 1e-12  # just above the estimate, where without changes `excess` is 0 too
    return 1.0 if start >= 1 or excess(1.0) >= 0 else float(brentq(excess, start, 1.0, xtol=1e-12))


def drop_of_shares(drops: Floats, alpha: float) -> Interval:
    """Return the mean of per-image drops in [-1, 1] with its 1 - alpha interval (central limit theorem).

    It cannot know of rare images, none of them in the sample, that lose everything. Such images lose their
    decision, too, and `drop_of_decisions` allows for them.
    """
    mean = float(drops.mean())
    if len(drops) < 2:
        return Interval(mean, -1.0, 1.0)
    half = float(ndtri(1 - alpha / 2) * drops.std(ddof=1)) / math.sqrt(len(drops))
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half))


def mcnemar_power(images: int, changed: float, drop: float, alpha: float, least: float = 0.0) -> float:
    """Return the probability that the exact two-sided McNemar test finds a true drop, and its direction.

    Args:
        images: number of paired images.
        changed: expected share of images whose decision changes, at least `drop`.
        drop: true drop, above 0.
        alpha: level of the test.
        least: smallest observed drop that counts as found.
    """
    low, high = binom.ppf([1e-9, 1 - 1e-9], images, changed)
    discordant = np.arange(max(1, int(low)), int(high) + 1)
    # special.bdtrc is binom.sf without checks that cost more than it, here many times a cell
    enough = np.ceil((least * images + discordant) / 2 - 1e-9) - 1  # lost less won is at least that share
    critical = np.minimum(np.maximum(_critical(discordant, alpha), enough), discordant)
    rejected = bdtrc(critical, discordant, min(1.0, (1 + drop / changed) / 2))
    return float(binom.pmf(discordant, images, changed) @ rejected)


def _critical(discordant: Ints, alpha: float) -> Floats:
    """Return, for consecutive numbers of discordant images, how many may be lost without rejection."""
    first, last = int(discordant[0]), int(discordant[-1])
    blocks = [_critical_block(block, alpha) for block in range(first // _BLOCK, last // _BLOCK + 1)]
    start = first % _BLOCK
    return np.concatenate(blocks)[start : start + len(discordant)]


@functools.lru_cache(maxsize=1024)
def _critical_block(block: int, alpha: float) -> Floats:
    """Return a block of critical values; cached, as all cells of a comparison have one level."""
    return np.asarray(binom.isf(alpha / 2, np.arange(block * _BLOCK, (block + 1) * _BLOCK), 0.5))


@functools.cache  # of so many images few shares are possible
def detectable_by_decisions(images: int, changed: float, alpha: float) -> float:
    """Return the smallest true drop that is found with a probability of `POWER`; 1 if none is.

    Args:
        images: number of paired images.
        changed: observed share of images whose decision changes; a larger drop changes as many as it says.
        alpha: level of the test.
    """

    def lacking(drop: float) -> float:
        return mcnemar_power(images, max(changed, drop), drop, alpha) - POWER

    return float(brentq(lacking, 1e-9, 1.0, xtol=1e-6)) if lacking(1.0) > 0 else 1.0


@functools.cache
def images_for_decisions(changed: float, drop: float, alpha: float) -> int | None:
    """Return how many images find a true drop with a probability of `POWER`; None beyond `MOST_IMAGES`."""
    changed = max(changed, drop)
    low, high = 0, images_for_shares(math.sqrt(changed), drop, alpha)  # their variance is at most `changed`
    if high is None:
        return None
    while mcnemar_power(high, changed, drop, alpha) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if mcnemar_power(middle, changed, drop, alpha) < POWER:
            low = middle
        else:
            high = middle
    return high


def detectable_by_shares(images: int, deviation: float, alpha: float) -> float:
    """Return the smallest mean of per-image drops found with `POWER` (normal approximation)."""
    return min(1.0, _both_quantiles(alpha) * deviation / math.sqrt(images))


def images_for_shares(deviation: float, drop: float, alpha: float) -> int | None:
    """Return how many images of this deviation find a mean drop with `POWER`; None beyond `MOST_IMAGES`."""
    needed = math.ceil((_both_quantiles(alpha) * deviation / drop) ** 2)
    return max(1, needed) if needed <= MOST_IMAGES else None


def _both_quantiles(alpha: float) -> float:
    return float(ndtri(1 - alpha / 2) + ndtri(POWER))
