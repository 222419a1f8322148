"""Certify with as few draws as decide the same: looks at growing numbers of draws, one total error."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scipy.stats import betabinom

from robustbench_sde.evaluation import bounds
from robustbench_sde.evaluation.bounds import needed_probability

#: raised whenever images stop at other looks, so that stored certificates are not taken for new ones
LOOKS_VERSION = 2
#: number of draws at the first look; each further look has twice as many
FIRST = 100
#: share of `alpha` that the last look gets; the earlier ones share the rest evenly
LAST_SHARE = 0.5
#: error of the upper bound by which an image is given up at a look
FUTILITY = 1e-4
#: predicted chance that all draws would certify an image, below which it is given up at a look
HOPE = 1e-3


@dataclass(frozen=True)
class Tally:
    """Sums over the draws of an image so far: of votes, or of probabilities, of the class it certifies."""

    count: int
    #: sum of the values; the number of votes for the rule `vote`
    total: float
    #: sum of their squares
    squares: float

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.total / self.count

    @property
    def variance(self) -> float:
        """Sample variance of the values."""
        spread = self.squares - self.total**2 / self.count
        return max(0.0, spread) / max(1, self.count - 1)

    def low(self, rule: str, alpha: float) -> float:
        """Return the lower bound of the vote share (`vote`) or mean probability (`mean-prob`)."""
        if rule == "vote":
            return bounds.clopper_pearson_low(round(self.total), self.count, alpha)
        return bounds.bernstein_low(self.mean, self.variance, self.count, alpha)

    def high(self, rule: str, alpha: float) -> float:
        """Return the upper bound of the vote share (`vote`) or mean probability (`mean-prob`)."""
        if rule == "vote":
            return bounds.clopper_pearson_high(round(self.total), self.count, alpha)
        return bounds.bernstein_high(self.mean, self.variance, self.count, alpha)

    def best(self, draws: int) -> "Tally":
        """Return the tally after `draws` draws in all if every further value is 1."""
        more = draws - self.count
        return Tally(draws, self.total + more, self.squares + more)


@dataclass(frozen=True)
class Looks:
    """Plan of the looks at an image's draws.

    Look k uses the error alpha_k, and the alpha_k add up to `alpha`. By the union bound (Bonferroni) the
    probability that the lower bound is too high at any look, hence at the one where sampling stops, is at
    most `alpha`, whatever the stopping rule does. This is the simplest case of the error spending of Lan &
    DeMets, Biometrika 1983. Giving up early costs no error: it only takes certificates away.
    """

    draws: int
    alpha: float
    sigma: float
    #: radii whose answers are wanted, at least one
    radii: tuple[float, ...]
    rule: str = "vote"
    #: False: one look, at all draws
    early: bool = True

    @property
    def ends(self) -> Sequence[int]:
        """Numbers of draws at which it looks, rising to `draws`."""
        if not self.early:
            return [self.draws]
        ends, end = [], FIRST
        while end < self.draws:
            ends.append(end)
            end *= 2
        return [*ends, self.draws]

    def error(self, look: int) -> float:
        """Return the error of a look, counted from 0."""
        looks = len(self.ends)
        if looks == 1:
            return self.alpha
        last = look == looks - 1
        return self.alpha * (LAST_SHARE if last else (1 - LAST_SHARE) / (looks - 1))

    def decided(self, tally: Tally, look: int) -> bool:
        """Whether more draws would most likely change no answer at the radii.

        A radius is answered if the bound at this look certifies it, or if the bound after all draws would not
        certify it even if every further draw were in favour, or if the probability itself is below what the
        radius needs but for a chance of `FUTILITY`. Votes are also given up if the chance that all draws
        would certify is below `HOPE`, predicted from the draws so far (beta-binomial, Jeffreys' prior).
        """
        if look == len(self.ends) - 1:
            return True
        low = tally.low(self.rule, self.error(look))
        reachable = tally.best(self.draws).low(self.rule, self.error(len(self.ends) - 1))
        ceiling = min(reachable, tally.high(self.rule, FUTILITY))
        needed = [needed_probability(radius, self.sigma) for radius in self.radii]
        return all(low > limit or ceiling <= limit or self._hopeless(tally, limit) for limit in needed)

    def _hopeless(self, tally: Tally, limit: float) -> bool:
        """Whether votes will hardly certify a radius that needs this probability, even after all draws."""
        if self.rule != "vote":
            return False
        last = self.error(len(self.ends) - 1)
        votes, more = round(tally.total), self.draws - tally.count
        missing = votes_needed(self.draws, last, limit) - votes
        predicted = betabinom(more, votes + 0.5, tally.count - votes + 0.5)
        return missing > more or float(predicted.sf(missing - 1)) < HOPE


@cache
def votes_needed(draws: int, alpha: float, limit: float) -> int:
    """Return the fewest votes of `draws` whose exact lower bound exceeds `limit`; `draws` + 1 if none do."""
    counts = range(draws + 1)
    return bisect_right(counts, limit, key=lambda votes: bounds.clopper_pearson_low(votes, draws, alpha))


def draws_for_radius(radius: float, sigma: float, alpha: float) -> int:
    """Return the fewest draws that certify a radius by votes if all of them agree."""
    needed = needed_probability(radius, sigma)
    if needed >= 1:
        raise ValueError("no number of draws certifies a radius this large in double precision")
    return math.floor(math.log(alpha) / math.log(needed)) + 1
