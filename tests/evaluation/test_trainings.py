"""Intervals of a difference between kinds of networks hold other images and other trainings."""

import math

import numpy as np
import pytest
from scipy.stats import chi2, nct, t

from benchmarks.versus import coverage, kind, simulate
from robustbench_sde.evaluation.statistics import Interval, paired
from robustbench_sde.evaluation.trainings import Difference, Spread, difference


@pytest.mark.parametrize("trainings", [(2, 2), (3, 3), (5, 5), (3, 1)], ids=str)
@pytest.mark.parametrize("spread", [0.0, 0.04])
def test_intervals_cover_as_often_as_they_say(trainings: tuple[int, int], spread: float) -> None:
    """94 to 96 % (`benchmarks/versus.py`, 4,000 simulations); of 600 here within 2.7 points of 95 %."""
    assert coverage(trainings, spread, repeats=600, images=200) == pytest.approx(0.95, abs=0.027)


def test_images_alone_cover_too_little_where_trainings_differ() -> None:
    """One training each, 4 points of spread: an interval over images holds the truth in under 80 %."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(300):
        difficulty = generator.standard_normal(500)
        one, other = (kind(generator, difficulty, 1, 0.04, 0.6) for _ in range(2))
        found = difference(one, other, None).interval
        covered += found.low <= 0 <= found.high
    assert covered / 300 < 0.8


def test_the_spread_between_trainings_is_estimated_without_bias() -> None:
    """200 estimates of a spread of 4 points have a root mean square of 4, give or take .4."""
    generator, found = np.random.default_rng(1), []
    for _ in range(200):
        difficulty = generator.standard_normal(400)
        spread = Spread.pooled([kind(generator, difficulty, 3, 0.04, 0.6) for _ in range(2)])
        assert spread is not None
        assert spread.freedom == 4
        found.append(spread.between - spread.of_images)
    assert math.sqrt(np.mean(found)) == pytest.approx(0.04, abs=0.004)


def test_what_is_called_detectable_is_found() -> None:
    """Three trainings each, 1 point of spread: found in 80 % of 400 comparisons, within 6 points."""
    promised = float(np.median([d.detectable(0.05) for d in simulate((3, 3), 0.01, 0.0, 400, 200)]))
    found = simulate((3, 3), 0.01, promised, 400, 200, seed=1)
    assert np.mean([each.p <= 0.05 for each in found]) == pytest.approx(0.8, abs=0.06)


def test_a_single_training_each_has_the_interval_of_images() -> None:
    """Without several trainings of any kind, nothing is known of other trainings."""
    one, other = np.array([[1.0, 0.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0, 0.0]])
    assert Spread.pooled([one, other]) is None
    found = difference(one, other, None)
    assert found.interval == paired(one[0] - other[0])
    assert found.interval.estimate == -0.25


def test_equal_kinds_do_not_differ() -> None:
    """Trainings that agree on every image have a difference of 0 and a p-value of 1, without warnings."""
    same = np.tile(np.array([1.0, 1.0, 0.0]), (3, 1))
    found = difference(same, same, Spread.pooled([same, same]))
    assert found.interval.estimate == 0
    assert found.p == 1
    assert found.interval.low < 0 < found.interval.high


@pytest.mark.parametrize(("estimate", "p"), [(0.0, 1.0), (0.1, 0.0), (-0.1, 0.0)])
def test_a_difference_without_an_error_is_certain(estimate: float, p: float) -> None:
    """Nothing varies: kinds are equal, or they are not."""
    assert Difference(Interval(estimate, estimate, estimate), 0.0, math.inf).p == p


def test_the_error_of_a_difference_by_hand() -> None:
    """Images and trainings add up; what is left of both is counted once."""
    one, other = np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0, 0.0]])
    spread = Spread.pooled([one, other])
    assert spread == Spread(pytest.approx(0.125), pytest.approx(8 * 0.25**2 / 3 / 4), 1)
    alone = difference(one[:1], other, None)
    assert alone.error == pytest.approx((alone.interval.high - alone.interval.low) / 2 / 1.959964)
    found = difference(one, other, spread)
    weight = 1 / 2 + 1  # two trainings against one
    more = np.array([1.0, -0.5, 0.0, 0.5, math.sqrt(weight / 2), -math.sqrt(weight / 2)])
    images = more.var() / 6 - weight * spread.of_images
    assert found.error == pytest.approx(math.sqrt(weight * 0.125 + max(0.0, images)))
    assert found.interval.estimate == 0.25


@pytest.mark.parametrize("freedom", [1000.0, 1001.0, math.inf])
def test_with_many_trainings_the_detectable_difference_is_normal(freedom: float) -> None:
    """Both quantiles of the normal distribution, 1.960 and 0.842, times the error; 1 at most."""
    nothing = Interval(0.0, 0.0, 0.0)
    assert Difference(nothing, 0.01, freedom).detectable(0.05) == pytest.approx(0.02802, rel=3e-3)
    assert Difference(nothing, 0.9, freedom).detectable(0.05) == 1.0


def test_with_one_degree_of_freedom_little_is_detectable() -> None:
    """Student's t of one degree of freedom asks for 12.7 errors; with power that is above forty."""
    found = Difference(Interval(0.0, 0.0, 0.0), 0.001, 1.0).detectable(0.05)
    shift = found / 0.001 * math.sqrt(float(chi2.median(1)))
    assert nct.sf(t.isf(0.025, 1), 1, shift) == pytest.approx(0.8, abs=1e-3)
