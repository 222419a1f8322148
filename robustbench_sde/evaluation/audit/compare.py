"""Compare two attacks on the same images, and decide when one is called stronger than the other."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binomtest, hypergeom

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.paired import POWER, mcnemar_power
from robustbench_sde.evaluation.statistics import Interval, paired, wilson

#: Error rate of one comparison that fails a model, of one that warns. An audit makes at most 17 comparisons
#: that can fail: 1.7 % of audits fail by chance, were all attacks exactly as strong as their rivals.
ALPHA_FAIL, ALPHA_WARN = 0.001, 0.01
#: Smallest difference in accuracy that is not let pass; smaller ones pass, however certain.
MATERIAL = 0.05
#: Excess of a rival that an audit has to be able to see; one that cannot is inconclusive.
FLOOR = 0.30
#: Fewest images on which a comparison can fail: 2^-10 < `ALPHA_FAIL`.
FEWEST_IMAGES = 10


@dataclass(frozen=True)
class AttackComparison:
    """A rival against the attack that it must not beat, image by image on the same score draws.

    A rival can be stronger only by images that the attack leaves. It is tried on some of those, in random
    order, and on all images only if it wins any (`evaluation.audit.lab.Lab.compare`).
    """

    #: accuracy that the attack leaves
    reference: Interval
    images: int
    #: number of images that the attack leaves, how many of them the rival was tried on, and fools
    left: int
    tried: int
    won: int
    #: number of images that only the attack fools; None if the rival was not tried on all images
    lost: int | None

    @classmethod
    def of(cls, reference: pd.DataFrame, rival: pd.DataFrame) -> "AttackComparison":
        """Compare the records of two cells on the same images in the same order."""
        before, after = (records["correct"].to_numpy(dtype=np.bool_) for records in (reference, rival))
        won, lost = int((before & ~after).sum()), int((~before & after).sum())
        left = int(before.sum())
        return cls(accuracy(reference), len(before), left, left, won, lost)

    @classmethod
    def without_wins(cls, reference: pd.DataFrame, tried: int) -> "AttackComparison":
        """Compare with a rival that won none of so many of the images that the attack leaves."""
        return cls(accuracy(reference), len(reference), int(reference["correct"].sum()), tried, 0, None)

    @property
    def rival(self) -> Interval | None:
        """Accuracy that the rival leaves; None if it was not tried on all images."""
        if self.lost is None:
            return None
        return wilson((self.left - self.won + self.lost) / self.images, self.images)

    @property
    def gain(self) -> Interval | None:
        """Share of images that only the rival fools, less the share that only the attack fools, if known."""
        if self.lost is None:
            return None
        same = self.images - self.won - self.lost
        return paired(np.repeat([1.0, -1.0, 0.0], [self.won, self.lost, same]))

    @property
    def p(self) -> float | None:
        """One-sided p-value of "the rival is not stronger" (exact McNemar), if known."""
        if self.lost is None:
            return None
        changed = self.won + self.lost
        return float(binomtest(self.won, changed, alternative="greater").pvalue) if changed else 1.0

    @property
    def verdict(self) -> AuditVerdict:
        """Fail where the rival is stronger, significantly and materially; warn where that is likely."""
        if self.p is None or self.gain is None or self.gain.estimate < MATERIAL or self.p > ALPHA_WARN:
            return AuditVerdict.PASS
        return AuditVerdict.FAIL if self.p <= ALPHA_FAIL else AuditVerdict.WARN

    @property
    def churn(self) -> float:
        """Share of images that change sides whichever attack is stronger: the smaller of both exchanges."""
        return min(self.won, self.lost or 0) / self.images

    @property
    def seen(self) -> float:
        """Smallest true excess of the rival, as a share, at which 80 % of audits warn or fail."""
        return smallest_excess(self.images, self.churn)

    @property
    def numbers(self) -> dict[str, float | list[float] | str]:
        """Accuracies, counts, gain and p-value by name, as a rule reports them; those that are known."""
        counts = {"left": float(self.left), "tried": float(self.tried), "won": float(self.won)}
        numbers: dict[str, float | list[float] | str] = {"reference": list(self.reference), **counts}
        if self.rival is not None and self.gain is not None and self.p is not None:
            numbers |= {"rival": list(self.rival), "gain": list(self.gain), "p": self.p}
        return numbers | {"seen": self.seen}

    def in_words(self, rival: str, reference: str) -> str:
        """Say what was found in one line without its power.

        Args:
            rival: name of the rival.
            reference: name of the attack.
        """
        if self.rival is not None:
            leaves = f"{rival} leaves {percent(self.rival)}"
            return f"{leaves}, {reference} {percent(self.reference)}, p = {self.p:.2g}"
        left = f"{reference} {percent(self.reference)}"
        if self.left < (needed := wins_to_warn(self.images)):
            images = counted(self.left, "image")
            return f"{left}: {rival} is not tried, since a warning takes {needed} and {images} are left"
        tried = f"none of {self.tried} tried of {self.left} left"
        return f"{left}: {rival} fools {tried}, a warning takes {needed}"


#: Times that a number is looked at on more and more images, before it is looked at on all of them.
STAGES = 4
#: Probability that a rival that would warn or fail on all images passes because it was tried on some.
MISSED = 0.01


def wins_to_warn(images: int) -> int:
    """Return how many images a rival alone has to fool, at least, for a warning."""
    return max(math.ceil(MATERIAL * images - 1e-9), math.ceil(-math.log2(ALPHA_WARN) - 1e-9))


@cache
def images_to_try(left: int, needed: int, won: int = 0, tried: int = 0, missed: float = MISSED) -> int:
    """Return on how many images, in random order, a rival has to be tried before it may be passed.

    If it fools no more than it has until then, at least `needed` wins among all `left` images would have
    shown so few with a probability of at most `missed` (hypergeometric distribution).

    Args:
        left: number of images that the attack leaves; if it is below `needed`, none has to be tried.
        needed: number of wins for a warning.
        won: number of images that the rival has fooled, below `needed`.
        tried: number of images that it was tried on.
        missed: largest probability of a false pass.
    """
    if left < needed:
        return 0
    numbers = range(tried, left + 1)
    return next(count for count in numbers if hypergeom.cdf(won, left, needed, count) <= missed)


def try_in_stages(images: int, needed: int, wins: Callable[[int], int]) -> tuple[int, int]:
    """Look at more and more images, until they show `needed` wins or so few that as many are improbable.

    Args:
        images: number of images, in random order.
        needed: number of wins for a warning.
        wins: function of a number of images, the first of the order, that counts the wins among them.

    Returns:
        Numbers of images tried and won. Fewer wins than `needed` pass what would have that many among all
        images with a probability of at most `MISSED`.
    """
    tried = won = 0
    for stage in range(STAGES + 1):
        more = images if stage == STAGES else images_to_try(images, needed, won, tried, MISSED / STAGES)
        if more == tried:
            break
        tried, won = more, wins(more)
        if won >= needed:
            break
    return tried, won


@cache
def smallest_excess(images: int, churn: float) -> float:
    """Return the smallest true excess of a rival at which 80 % of comparisons warn or fail; 1 if none.

    Args:
        images: number of paired images.
        churn: share of images that only the rival fools and, likewise, that only the reference fools, beyond
            the excess.
    """

    def lacking(excess: float) -> float:
        return mcnemar_power(images, 2 * churn + excess, excess, 2 * ALPHA_WARN, MATERIAL) - POWER

    most = 1 - 2 * churn
    return float(brentq(lacking, 1e-6, most, xtol=1e-4)) if most > 1e-6 and lacking(most) > 0 else 1.0


def seen_in_words(seen: float) -> str:
    """Say the smallest excess that would have been seen, like ``18 points more would have been seen``."""
    if seen >= 1:
        return "no excess would have been seen"
    return f"{math.ceil(100 * seen - 1e-6)} points more would have been seen"


def judged(verdict: AuditVerdict, seen: float) -> AuditVerdict:
    """Make a pass inconclusive if the rule could not have seen an excess of `FLOOR`."""
    return AuditVerdict.INCONCLUSIVE if verdict is AuditVerdict.PASS and seen > FLOOR else verdict


def images_for_floor(images: int) -> int:
    """Return how many images, more than `images` and a multiple of 5, see an excess of `FLOOR`.

    One exchange in fifty images each way is taken for granted.
    """
    fewest = next(count for count in itertools.count(5, 5) if smallest_excess(count, 0.02) <= FLOOR)
    return max(fewest, 5 * math.ceil((images + 1) / 5))


def accuracy(records: pd.DataFrame) -> Interval:
    """Return the accuracy of a cell's records, with Wilson's interval."""
    return wilson(float(records["correct"].mean()), len(records))


def percent(interval: Interval) -> str:
    """Format a share like ``56.0 % (42.3-68.8)``."""
    return f"{100 * interval.estimate:.1f} % ({100 * interval.low:.1f}-{100 * interval.high:.1f})"
