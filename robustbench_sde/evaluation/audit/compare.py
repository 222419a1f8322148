"""Compare two attacks on the same images, and decide when one is called stronger than the other."""

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binomtest

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
    """A rival against the attack that it must not beat, image by image on the same score draws."""

    #: accuracies left
    reference: Interval
    rival: Interval
    #: share of images that only the rival fools, less the share that only the reference fools
    gain: Interval
    #: one-sided p-value of "the rival is not stronger" (exact McNemar)
    p: float
    images: int
    #: share of images that change sides whichever attack is stronger: the smaller of both exchanges
    churn: float

    @classmethod
    def of(cls, reference: pd.DataFrame, rival: pd.DataFrame) -> "AttackComparison":
        """Compare the records of two cells on the same images in the same order."""
        before, after = (records["correct"].to_numpy(dtype=np.bool_) for records in (reference, rival))
        won, lost = int((before & ~after).sum()), int((~before & after).sum())
        p = float(binomtest(won, won + lost, alternative="greater").pvalue) if won + lost else 1.0
        gain = paired(before.astype(np.float64) - after)
        churn = min(won, lost) / len(before)
        return cls(accuracy(reference), accuracy(rival), gain, p, len(before), churn)

    @property
    def verdict(self) -> AuditVerdict:
        """Fail where the rival is stronger, significantly and materially; warn where that is likely."""
        if self.gain.estimate < MATERIAL or self.p > ALPHA_WARN:
            return AuditVerdict.PASS
        return AuditVerdict.FAIL if self.p <= ALPHA_FAIL else AuditVerdict.WARN

    @property
    def seen(self) -> float:
        """Smallest true excess of the rival, as a share, at which 80 % of audits warn or fail."""
        return smallest_excess(self.images, self.churn)

    @property
    def numbers(self) -> dict[str, float | list[float] | str]:
        """Accuracies, gain and p-value by name, as a rule reports them."""
        return {
            "reference": list(self.reference),
            "rival": list(self.rival),
            "gain": list(self.gain),
            "p": self.p,
            "seen": self.seen,
        }


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
