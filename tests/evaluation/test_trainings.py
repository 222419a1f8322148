"""Intervals of a difference between kinds of networks hold other images and other trainings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, nct, norm, t

from benchmarks.versus import false_claims, kind, simulate
from robustbench_sde.evaluation.statistics import Interval, paired
from robustbench_sde.evaluation.trainings import Difference, Spread, Variance, difference


@pytest.mark.parametrize("trainings", [(2, 2), (3, 3), (5, 5), (3, 1), (2, 1)], ids=str)
@pytest.mark.parametrize("spread", [0.0, 0.04])
def test_equal_kinds_are_called_different_as_rarely_as_is_said(
    trainings: tuple[int, int], spread: float
) -> None:
    """95 to 97 % of intervals cover in `benchmarks/versus.py`; here 600 simulations, and four sigma.

    Holm's method asks for the tails, too: at the level .2 % a few in a thousand. A test that takes trainings
    alike by chance for certainty calls 5 % different.
    """
    outside, _, tail = false_claims(trainings, spread, repeats=600, images=200)
    assert 0.003 < outside < 0.085
    assert tail <= 0.02


def test_trainings_that_are_alike_by_chance_prove_nothing() -> None:
    """Two trainings of equal accuracy have no spread between them; the images still are a sample."""
    generator = np.random.default_rng(0)
    one = (generator.random(200) < 0.7).astype(np.float64)
    alike = np.stack([one, np.roll(one, 1)])  # other images, as many right
    other = np.roll(one, 7)[None]
    other[0, np.flatnonzero(other[0] == 0)[:4]] = 1.0
    spread = Spread.pooled([alike, other])
    assert spread is not None
    assert spread.between == pytest.approx(0)
    found, alone = difference(other, alike, spread), difference(other, alike, None)
    width = found.interval.high - found.interval.low
    assert width >= 0.49 * (alone.interval.high - alone.interval.low)
    assert found.p > 0.01


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


def test_the_parts_of_a_variance_by_hand() -> None:
    """Images and trainings add up; what is left of both is counted once."""
    one, other = np.array([[1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0, 0.0]])
    spread = Spread.pooled([one, other])
    assert spread == Spread(pytest.approx(0.125), pytest.approx(8 * 0.25**2 / 3 / 4), 1)
    alone = difference(one[:1], other, None)
    half = (alone.interval.high - alone.interval.low) / 2
    assert float(alone.variance.half(0.05)) == pytest.approx(half)
    found = difference(one, other, spread)
    weight = 1 / 2 + 1  # two trainings against one
    more = np.array([1.0, -0.5, 0.0, 0.5, math.sqrt(weight / 2), -math.sqrt(weight / 2)])
    images = max(0.0, more.var() / 6 - weight * spread.of_images)
    assert found.variance.images == pytest.approx(images)
    assert found.variance.trainings == pytest.approx(weight * 0.125)
    expected = math.sqrt(t.isf(0.025, 1) ** 2 * weight * 0.125 + norm.isf(0.025) ** 2 * images)
    assert float(found.variance.half(0.05)) == pytest.approx(expected)
    assert found.interval == (0.25, -1.0, 1.0)  # no share is beyond


@given(st.floats(0, 0.01), st.floats(1e-6, 0.01), st.floats(0, 0.01), st.integers(1, 20), st.floats(-1, 1))
def test_p_values_and_intervals_agree(
    images: float, alone: float, trainings: float, freedom: int, estimate: float
) -> None:
    """The interval of confidence 1 - p ends at zero, and a lower level has a wider interval."""
    variance = Variance(images, alone, trainings, freedom)
    found = Difference(Interval(estimate, 0.0, 0.0), variance)
    assert 0 < found.p <= 1
    if found.p > 1e-10:
        assert float(variance.half(found.p)) == pytest.approx(abs(estimate), abs=1e-6)
    assert float(variance.half(0.01)) > float(variance.half(0.05))


def test_what_is_detectable_without_trainings_is_normal() -> None:
    """Both quantiles of the normal distribution, 1.960 and 0.842, times the error; 1 at most."""
    nothing = Interval(0.0, 0.0, 0.0)
    assert Difference(nothing, Variance(1e-4, 1e-4)).detectable(0.05) == pytest.approx(0.02802, rel=3e-3)
    assert Difference(nothing, Variance(0.81, 0.81)).detectable(0.05) == 1.0


@pytest.mark.parametrize("freedom", [1, 4, 1000])
def test_what_is_detectable_between_trainings_is_students(freedom: int) -> None:
    """The test of trainings alone is Student's, and its power comes from the noncentral distribution."""
    part = 1e-6
    found = Difference(Interval(0.0, 0.0, 0.0), Variance(0.0, 1e-12, part, freedom)).detectable(0.05)
    shift = found / math.sqrt(part * freedom / float(chi2.median(freedom)))
    assert nct.sf(t.isf(0.025, freedom), freedom, shift) == pytest.approx(0.8, abs=5e-3)
