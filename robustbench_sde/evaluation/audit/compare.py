"""Compare two attacks on the same images, and decide when one is called stronger than the other."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.statistics import Interval, paired, wilson

#: Error rate of one comparison that fails a model, of one that warns. An audit makes at most 17 comparisons
#: that can fail: 1.7 % of audits fail by chance, were all attacks exactly as strong as their rivals.
ALPHA_FAIL, ALPHA_WARN = 0.001, 0.01
#: Smallest difference in accuracy that is not let pass; smaller ones pass, however certain.
MATERIAL = 0.05
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

    @classmethod
    def of(cls, reference: pd.DataFrame, rival: pd.DataFrame) -> "AttackComparison":
        """Compare the records of two cells on the same images in the same order."""
        before, after = (records["correct"].to_numpy(dtype=np.bool_) for records in (reference, rival))
        won, lost = int((before & ~after).sum()), int((~before & after).sum())
        p = float(binomtest(won, won + lost, alternative="greater").pvalue) if won + lost else 1.0
        gain = paired(before.astype(np.float64) - after)
        return cls(accuracy(reference), accuracy(rival), gain, p)

    @property
    def verdict(self) -> AuditVerdict:
        """Fail where the rival is stronger, significantly and materially; warn where that is likely."""
        if self.gain.estimate < MATERIAL or self.p > ALPHA_WARN:
            return AuditVerdict.PASS
        return AuditVerdict.FAIL if self.p <= ALPHA_FAIL else AuditVerdict.WARN

    @property
    def numbers(self) -> dict[str, float | list[float] | str]:
        """Accuracies, gain and p-value by name, as a rule reports them."""
        return {
            "reference": list(self.reference),
            "rival": list(self.rival),
            "gain": list(self.gain),
            "p": self.p,
        }


def accuracy(records: pd.DataFrame) -> Interval:
    """Return the accuracy of a cell's records, with Wilson's interval."""
    return wilson(float(records["correct"].mean()), len(records))


def percent(interval: Interval) -> str:
    """Format a share like ``56.0 % (42.3-68.8)``."""
    return f"{100 * interval.estimate:.1f} % ({100 * interval.low:.1f}-{100 * interval.high:.1f})"
