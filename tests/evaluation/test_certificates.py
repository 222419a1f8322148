"""Bounds and looks behind a certificate: exactness, coverage, and draws saved."""

import math

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import betabinom

from robustbench_sde.evaluation import bounds
from robustbench_sde.evaluation.looks import Looks, Tally, draws_for_radius, votes_needed


@pytest.mark.parametrize(("right", "trials"), [(0, 10), (1, 10), (9, 10), (10, 10), (9_950, 10_000)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_the_exact_interval_is_that_of_statsmodels(right: int, trials: int, alpha: float) -> None:
    """Clopper-Pearson limits equal statsmodels' `beta` interval."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    low, high = proportion.proportion_confint(right, trials, alpha=alpha, method="beta")
    ours = bounds.clopper_pearson(right, trials, alpha)
    assert ours.low == pytest.approx(low, abs=1e-12)
    assert ours.high == pytest.approx(high, abs=1e-12)


def test_the_lower_bound_solves_its_own_equation() -> None:
    """At the bound, so many votes or more have probability alpha, by the binomial distribution itself."""
    low = bounds.clopper_pearson_low(17, 20, 0.01)
    tail = sum(math.comb(20, k) * low**k * (1 - low) ** (20 - k) for k in range(17, 21))
    assert tail == pytest.approx(0.01, rel=1e-9)


@pytest.mark.parametrize("shape", [(0.5, 0.5), (8.0, 1.0), (30.0, 2.0)])
def test_the_bernstein_bound_is_rarely_too_high(shape: tuple[float, float]) -> None:
    """Over 4,000 samples of beta values the lower bound exceeds the mean no more often than alpha says."""
    dice = np.random.default_rng(0)
    values = dice.beta(*shape, size=(4_000, 200))
    means, variances = values.mean(1), values.var(1, ddof=1)
    lows = [bounds.bernstein_low(m, v, 200, 0.05) for m, v in zip(means, variances, strict=True)]
    assert np.mean(np.array(lows) > shape[0] / sum(shape)) <= 0.05
    assert np.mean(lows) > shape[0] / sum(shape) - 0.2  # it says something


def test_radii_of_linear_classifiers_are_below_the_truth_and_near_it() -> None:
    """No more than alpha of the radii exceed them; median within 5 %.

    A linear classifier at distance d from its boundary votes rightly with probability Phi(d / sigma).
    """
    dice, sigma, alpha, draws = np.random.default_rng(1), 0.25, 0.001, 10_000
    truth = dice.uniform(0.05, 0.6, 2_000)
    votes = dice.binomial(draws, ndtr(truth / sigma))
    radii = np.array(
        [bounds.certified_radius(bounds.clopper_pearson_low(int(v), draws, alpha), sigma) for v in votes]
    )
    assert np.mean(radii > truth) <= alpha
    assert 0.95 <= np.median(radii / truth) <= 1


def _looked(values: np.ndarray, looks: Looks) -> tuple[float, int]:
    """Return lower bound and draws of the look at which sampling stops."""
    for look, end in enumerate(looks.ends):
        part = values[:end]
        tally = Tally(end, float(part.sum()), float((part * part).sum()))
        if looks.decided(tally, look):
            return tally.low(looks.rule, looks.error(look)), end
    raise AssertionError("the last look decides")


@pytest.mark.parametrize("rule", ["vote", "mean-prob"])
@pytest.mark.parametrize("truth", [0.5, 0.84, 0.977])
def test_looking_often_keeps_the_total_error(rule: str, truth: float) -> None:
    """The bound where sampling stops is too high with probability at most alpha."""
    looks = Looks(draws=3_200, alpha=0.1, sigma=0.25, radii=(0.0, 0.25, 0.5), rule=rule)
    dice = np.random.default_rng(2)
    runs = [_looked((dice.random(3_200) < truth).astype(float), looks) for _ in range(1_500)]
    assert np.mean([low > truth for low, _ in runs]) <= 0.1


def test_looking_often_answers_as_all_draws_do_with_a_third_of_them() -> None:
    """Certified shares of images from p = 0.3 to 1 differ by at most 1 %, with a third of the draws."""
    dice, sigma, radii = np.random.default_rng(3), 0.25, (0.0, 0.25, 0.5, 1.0)
    probabilities = ndtr(dice.normal(1.5, 1.2, 300))
    early = Looks(10_000, 0.001, sigma, radii)
    answers, used = np.zeros((2, 300, len(radii)), dtype=bool), []
    for image, p in enumerate(probabilities):
        values = (dice.random(10_000) < p).astype(float)
        for kind, looks in enumerate((early, Looks(10_000, 0.001, sigma, radii, early=False))):
            low, draws = _looked(values, looks)
            answers[kind, image] = [low > bounds.needed_probability(r, sigma) for r in radii]
            used += [draws] * (kind == 0)
    assert np.abs(answers[0].mean(0) - answers[1].mean(0)).max() <= 0.01
    assert np.mean(used) <= 10_000 / 3


def test_errors_of_all_looks_add_up_to_alpha() -> None:
    """The errors of the looks add up to alpha, for one look and for many."""
    for draws in (50, 100, 101, 10_000):
        looks = Looks(draws, 0.001, 0.25, (0.0,))
        assert sum(looks.error(look) for look in range(len(looks.ends))) == pytest.approx(0.001)
        assert looks.ends[-1] == draws


def test_the_fewest_draws_for_a_radius() -> None:
    """So many agreeing draws certify the radius, one fewer does not."""
    draws = draws_for_radius(0.5, 0.25, 0.001)
    bound = [bounds.clopper_pearson_low(n, n, 0.001) for n in (draws - 1, draws)]
    radii = [bounds.certified_radius(p, 0.25) for p in bound]
    assert radii[0] <= 0.5 < radii[1]


def test_survives_is_unbiased() -> None:
    """The mean of C(c, k) / C(n, k) over all counts c of a binomial is p^k, and k = 1 is the share."""
    n, p = 12, 0.7
    counts = np.arange(n + 1)
    weights = np.array([math.comb(n, int(c)) * p**c * (1 - p) ** (n - c) for c in counts])
    for k in (1, 2, 5, 12):
        assert weights @ bounds.survives(counts, np.full(n + 1, n), k) == pytest.approx(p**k)
    np.testing.assert_allclose(bounds.survives(counts, np.full(n + 1, n), 1), counts / n)


def test_the_fewest_votes_that_certify():
    """So many votes exceed the limit, one fewer does not; a limit beyond all votes is never reached."""
    votes = votes_needed(1_000, 0.001, 0.9)
    assert bounds.clopper_pearson_low(votes - 1, 1_000, 0.001) <= 0.9
    assert bounds.clopper_pearson_low(votes, 1_000, 0.001) > 0.9
    assert votes_needed(1_000, 0.001, 0.9999) == 1_001


def test_what_is_given_up_would_hardly_have_been_certified():
    """Stopping loses 1 % of the certificates of all draws at most, for images close to a limit."""
    dice, needed = np.random.default_rng(4), bounds.needed_probability(0.25, 0.25)
    early = Looks(10_000, 0.001, 0.25, (0.25,))
    end, fewest = early.error(len(early.ends) - 1), len(early.ends) - 1
    lost = certified = stopped = 0
    for _ in range(2_000):
        values = (dice.random(10_000) < needed + dice.uniform(0.005, 0.02)).astype(float)
        whole = Tally(10_000, float(values.sum()), float(values.sum()))
        would = whole.low("vote", end) > needed
        low, draws = _looked(values, early)
        certified += would
        lost += would and low <= needed
        stopped += draws < early.ends[fewest]
    assert certified > 500
    assert lost <= 0.01 * certified
    assert stopped > 500


def test_a_radius_beyond_double_precision_takes_no_number_of_draws():
    """At ten sigma the probability that certifies is 1 in double precision."""
    with pytest.raises(ValueError, match="no number of draws"):
        draws_for_radius(2.5, 0.25, 0.001)


@pytest.mark.parametrize("radius", [0.0, 0.1, 0.2, 0.3])
def test_a_look_decides_what_its_definition_says(radius):
    """Certified, or out of reach, or improbable, or a chance below a thousandth: summed up vote by vote."""
    looks, needed = Looks(200, 0.01, 0.25, (radius,)), bounds.needed_probability(radius, 0.25)
    certified = [bounds.clopper_pearson_low(votes, 200, 0.005) > needed for votes in range(201)]
    for votes in range(101):
        future = betabinom(100, votes + 0.5, 100.5 - votes)
        chance = sum(future.pmf(more) for more in range(101) if certified[votes + more])
        expected = (
            bounds.clopper_pearson_low(votes, 100, 0.005) > needed
            or not certified[votes + 100]
            or bounds.clopper_pearson_high(votes, 100, 1e-4) <= needed
            or chance < 1e-3
        )
        assert looks.decided(Tally(100, votes, votes), 0) == expected, votes


def test_the_bernstein_bound_by_hand():
    """Maurer & Pontil's theorem 4 for mean 1/2, variance 1/4 and 101 values: .1355 + .0861 at .05."""
    width = math.sqrt(2 * 0.25 * math.log(40) / 101) + 7 * math.log(40) / 300
    assert bounds.bernstein_low(0.5, 0.25, 101, 0.05) == pytest.approx(0.5 - width)
    assert bounds.bernstein_high(0.5, 0.25, 101, 0.05) == pytest.approx(0.5 + width)
    assert (bounds.bernstein_low(0.01, 0.0, 2, 0.05), bounds.bernstein_high(0.99, 0.0, 2, 0.05)) == (0.0, 1.0)


def test_the_exact_interval_by_hand() -> None:
    """If all of n trials succeed, the lower bound is the n-th root of half the error."""
    assert bounds.clopper_pearson(20, 20, 0.1) == pytest.approx((1.0, 0.05 ** (1 / 20), 1.0))
    assert bounds.clopper_pearson(0, 20, 0.1) == pytest.approx((0.0, 0.0, 1 - 0.05 ** (1 / 20)))


@pytest.mark.parametrize(("values", "variance"), [((1.0,), 0.0), ((0.0, 1.0), 0.5), ((0.2, 0.4, 0.9), 0.13)])
def test_a_tally_has_the_sample_variance(values, variance):
    """Sums of values and of squares are enough for it."""
    tally = Tally(len(values), sum(values), sum(value**2 for value in values))
    assert tally.mean == pytest.approx(np.mean(values))
    assert tally.variance == pytest.approx(variance)
