"""Difference between two kinds of networks, each trained several times: images and trainings are samples.

A *training* is one network of a kind; trainings of a kind differ in their seed. The outcome of an image under
a training has three random parts: the image (all networks share it), the training (all images share it), and
what is left of both. Their variances come from mean squares, as in studies with several readers of one set of
cases (Obuchowski & Rockette, Communications in Statistics 24, 1995). In an interval the part of the
trainings has Student's quantile and that of the images the normal one; half-widths are added in quadrature as
Zou & Donner (Statistics in Medicine 27, 2008) recover variances. `benchmarks/versus.py` simulates coverage,
errors in the tails, and power.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm, t

from robustbench_sde.evaluation.paired import POWER, detectable_by_shares
from robustbench_sde.evaluation.statistics import Floats, Interval, paired

#: Least p-value; and share of the interval over images alone below which no interval is.
_LEAST, _FLOOR = 1e-12, 0.5
#: Probabilities whose quantiles stand for a distribution.
_QUANTILES = (np.arange(200) + 0.5) / 200


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
class Variance:
    """Parts of the variance of a difference between two kinds."""

    #: part of the images, without what `trainings` holds of it already
    images: float
    #: over images, if the trainings were the only ones
    images_alone: float
    #: part of the trainings; 0 if nothing is known of other trainings
    trainings: float = 0.0
    #: degrees of freedom of `trainings`
    freedom: int = 1

    def half(self, level: float, trainings: Floats | float | None = None) -> Floats:
        """Return half the width of the interval of confidence 1 - level.

        It is at least half of that over images alone: few trainings can be alike by chance.

        Args:
            level: between 0 and 1.
            trainings: other estimates of this part; None: the one there is.
        """
        normal, student = float(norm.isf(level / 2)), float(t.isf(level / 2, self.freedom))
        part = np.asarray(self.trainings if trainings is None else trainings, dtype=np.float64)
        both = np.sqrt(student**2 * part + normal**2 * self.images)
        return np.maximum(both, _FLOOR * normal * math.sqrt(self.images_alone))


@dataclass(frozen=True)
class Difference:
    """Mean accuracy of one kind less that of another, on the same images."""

    #: difference with its 95 % interval over images, and over trainings if a spread is known
    interval: Interval
    variance: Variance

    @property
    def p(self) -> float:
        """Two-sided p-value of "the kinds are equally good"; `_LEAST` stands for all smaller ones."""
        distance = abs(self.interval.estimate)
        if float(self.variance.half(_LEAST)) <= distance:
            return _LEAST
        if float(self.variance.half(1.0)) >= distance:  # rounding: SciPy 1.12 has 6e-17 for 0
            return 1.0
        return float(
            brentq(lambda level: float(self.variance.half(level)) - distance, _LEAST, 1.0, xtol=1e-15)
        )

    def detectable(self, level: float) -> float:
        """Return the smallest true difference that a test of this level finds with a probability of `POWER`.

        Differences are shares; the result is 1 if no smaller one is found.
        """
        variance, freedom = self.variance, self.variance.freedom
        if variance.trainings == 0:
            return detectable_by_shares(1, math.sqrt(variance.images_alone), level)
        # most estimates of a variance with few degrees of freedom are too small: correct the median
        trainings = variance.trainings * freedom / float(chi2.median(freedom))
        halves = variance.half(level, trainings * chi2.ppf(_QUANTILES, freedom) / freedom)
        deviation = math.sqrt(trainings + variance.images)

        def lacking(gain: float) -> float:
            return float(norm.sf((halves - gain) / deviation).mean()) - POWER

        return float(brentq(lacking, 0.0, 1.0, xtol=1e-5)) if lacking(1.0) > 0 else 1.0


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
    # one image more that changes each way, as in `paired`; by 1 for single trainings
    more = np.append(changes, np.array([1.0, -1.0]) * math.sqrt(weight / 2))
    alone = float(more.var()) / len(more)
    if spread is None:
        return Difference(paired(changes), Variance(alone, alone))
    # the variance over images holds what is left of image and training, and so does `between`: count it once
    images = max(0.0, alone - weight * spread.of_images)
    variance = Variance(images, alone, weight * spread.between, spread.freedom)
    estimate, half = float(changes.mean()), float(variance.half(0.05))
    return Difference(Interval(estimate, max(-1.0, estimate - half), min(1.0, estimate + half)), variance)
