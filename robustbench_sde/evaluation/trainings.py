"""Difference between two kinds of networks, each trained several times: images and trainings are samples.

A *training* is one network of a kind; trainings of a kind differ in their seed. The outcome of an image under
a training has three random parts: the image (all networks share it), the training (all images share it), and
what is left of both. Their variances come from mean squares, as in studies with several readers of one set of
cases (Obuchowski & Rockette, Communications in Statistics 24, 1995). The degrees of freedom are those of
Hillis, "A comparison of denominator degrees of freedom methods for multiple observer ROC analysis",
Statistics in Medicine 26 (2007), for trainings nested in kinds. `benchmarks/versus.py` simulates coverage and
power.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, nct, t

from robustbench_sde.evaluation.paired import POWER, detectable_by_shares
from robustbench_sde.evaluation.statistics import Floats, Interval, paired


@dataclass(frozen=True)
class Spread:
    """Variance between trainings of a kind, pooled over all kinds that have several."""

    #: variance of the mean accuracy of a training, on these images
    between: float
    #: part of `between` that comes from having finitely many images
    of_images: float
    #: degrees of freedom of `between`: trainings less kinds
    freedom: int

    @classmethod
    def pooled(cls, kinds: Sequence[Floats]) -> "Spread | None":
        """Estimate the spread, assumed equal in all kinds; None if no kind has several trainings.

        Args:
            kinds: (trainings, images) outcomes in [0, 1] of each kind, all on the same images.
        """
        several = [kind for kind in kinds if len(kind) > 1]
        freedom = sum(len(kind) - 1 for kind in several)
        if not freedom:
            return None
        between = sum(float(kind.mean(1).var(ddof=1)) * (len(kind) - 1) for kind in several) / freedom
        images = several[0].shape[1]
        left = 0.0
        for kind in several:
            residual = kind - kind.mean(0) - kind.mean(1, keepdims=True) + kind.mean()
            left += float((residual**2).sum())
        return cls(between, left / (freedom * max(1, images - 1)) / images, freedom)

    @property
    def deviation(self) -> float:
        """Standard deviation between trainings alone, without what the images add; at least 0."""
        return math.sqrt(max(0.0, self.between - self.of_images))


@dataclass(frozen=True)
class Difference:
    """Mean accuracy of one kind less that of another, on the same images."""

    #: difference with its 95 % interval over images, and over trainings if a spread is known
    interval: Interval
    #: standard error of the difference
    error: float
    #: degrees of freedom of `error`; infinity without a spread
    freedom: float

    @property
    def p(self) -> float:
        """Two-sided p-value of "the kinds are equally good", by Student's t."""
        if self.error == 0:
            return 1.0 if self.interval.estimate == 0 else 0.0
        return float(2 * t.sf(abs(self.interval.estimate) / self.error, self.freedom))

    def detectable(self, level: float) -> float:
        """Return the smallest true difference that a test of this level finds with a probability of `POWER`.

        Differences are shares; the result is 1 if no smaller one is found.
        """
        if self.freedom == math.inf:
            return detectable_by_shares(1, self.error, level)
        # with few degrees of freedom most estimates of a deviation are too small: correct the median
        deviation = self.error * math.sqrt(self.freedom / float(chi2.median(self.freedom)))
        return min(1.0, deviation * _noncentrality(self.freedom, level))


def difference(one: Floats, other: Floats, spread: Spread | None) -> Difference:
    """Compare two kinds.

    Args:
        one: (trainings, images) outcomes in [0, 1] of one kind.
        other: (trainings, images) outcomes of the other kind, on the same images.
        spread: pooled spread of trainings; None: the interval is about these trainings and other images.

    Returns:
        The difference, `one` less `other`; its interval is `statistics.paired` if there is no spread.
    """
    changes = one.mean(0) - other.mean(0)
    weight = 1 / len(one) + 1 / len(other)
    extra = math.sqrt(
        weight / 2
    )  # one image more that changes each way, as in `paired`; 1 for single trainings
    more = np.append(changes, (extra, -extra))
    deviation = float(more.std()) / math.sqrt(len(more))
    if spread is None:
        return Difference(paired(changes), deviation, math.inf)
    trainings = weight * spread.between
    # the variance over images holds what is left of image and training, and so does `between`: count it once
    variance = trainings + max(0.0, deviation**2 - weight * spread.of_images)
    freedom = spread.freedom * (variance / trainings) ** 2 if trainings > 0 else math.inf
    error = math.sqrt(variance)
    half = error * float(t.ppf(0.975, freedom))
    estimate = float(changes.mean())
    return Difference(
        Interval(estimate, max(-1.0, estimate - half), min(1.0, estimate + half)), error, freedom
    )


@cache
def _noncentrality(freedom: float, level: float) -> float:
    """Return the true difference in standard errors that a two-sided t test finds with `POWER`."""
    critical = float(t.isf(level / 2, freedom))
    if freedom > 1000:
        return critical + float(t.ppf(POWER, math.inf))

    def lacking(shift: float) -> float:
        return float(nct.sf(critical, freedom, shift)) - POWER

    highest = 2 * critical + 10
    return float(brentq(lacking, 0.0, highest, xtol=1e-4)) if lacking(highest) > 0 else math.inf
