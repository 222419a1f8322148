"""The statistics of the gate against enumeration, published values and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from robustbench_sde.evaluation import paired


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_sign_flip_test_is_the_enumeration_of_all_exchanges(differences):
    """The share of the 2^n sign patterns whose sum is at least as far from 0."""
    values = np.array(differences)
    signs = np.array(list(itertools.product((1, -1), repeat=len(values))))
    expected = float((np.abs(signs @ values) >= abs(values.sum())).mean())
    assert paired.sign_flip_test(values) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (10, 2), (3, 9), (60, 25), (4000, 3800)])
def test_of_decisions_it_is_the_exact_mcnemar_test(lost, won):
    """The two-sided binomial test of the images that have changed; their unit does not matter."""
    differences = np.repeat([1, -1, 0], [lost, won, 50])
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert paired.sign_flip_test(differences) == pytest.approx(expected, rel=1e-9)
    assert paired.sign_flip_test(32 * differences) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("unit", [1, 32])
def test_the_smallest_p_values_are_those_of_the_binomial(unit):
    """All of 200 changed images lost: 2^-199, where a Fourier transform has rounding errors of 1e-16."""
    differences = np.repeat([unit, 0], [200, 50])
    assert paired.sign_flip_test(differences) == pytest.approx(2.0**-199, rel=1e-9, abs=0)


def test_mcnemar_by_hand():
    """Armitage & Berry (1994), p. 127, 12 against 2: 2 (C(14,12) + C(14,13) + C(14,14)) / 2^14 = .0129."""
    assert paired.sign_flip_test(np.repeat([1, -1], [12, 2])) == pytest.approx(212 / 2**14)


def test_a_sum_too_long_for_the_exact_test_is_normal(monkeypatch):
    """Thousands of images: the approximation and the exact p-value agree to a hundredth of themselves."""
    differences = np.random.default_rng(0).integers(-32, 33, 4000)
    differences += differences.sum() > 0
    exact = paired.sign_flip_test(differences)
    monkeypatch.setattr(paired, "_LONGEST_SUM", 100)
    assert paired.sign_flip_test(differences) == pytest.approx(exact, rel=0.01)


def test_holm_by_hand():
    """Smallest times 4, next times 3, ...; never below the one before, never above 1."""
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.9, 0.8]) == [1.0, 1.0]
    assert paired.holm([]) == []


def test_the_interval_is_tangos():
    """Airway hyper-responsiveness data of Fagerland, Lydersen & Laake, Statistics in Medicine 33 (2014)."""
    interval = paired.drop_of_decisions(1, 7, 21, 0.05)
    assert interval == pytest.approx((-6 / 21, -0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("images", [1, 50, 360])
def test_without_a_change_the_interval_has_a_closed_form(images):
    """z^2 / (n + z^2); a loss of every image reaches 1."""
    z2 = stats.norm.ppf(0.975) ** 2
    expected = z2 / (images + z2)
    assert paired.drop_of_decisions(0, 0, images, 0.05) == pytest.approx((0, -expected, expected), abs=1e-6)
    assert paired.drop_of_decisions(images, 0, images, 0.05).high == 1.0


@pytest.mark.parametrize(("lost", "won", "images"), [(10, 2, 100), (3, 3, 40), (0, 5, 200), (80, 20, 100)])
def test_at_its_ends_the_score_test_is_just_rejected(lost, won, images):
    """The likelihood is maximised numerically here, not by Tango's formula."""

    def score(drop):
        def minus_log_likelihood(q):  # q: probability to win, q + drop: to lose
            chances = (q + drop, q, 1 - 2 * q - drop)
            counts = (lost, won, images - lost - won)
            return -sum(n * math.log(max(p, 1e-300)) for n, p in zip(counts, chances, strict=True) if n)

        bounds = (max(0.0, -drop), (1 - drop) / 2)
        q = optimize.minimize_scalar(minus_log_likelihood, bounds=bounds, options={"xatol": 1e-10}).x
        variance = images * (2 * q + drop - drop**2)
        return (lost - won - images * drop) / math.sqrt(variance)

    interval = paired.drop_of_decisions(lost, won, images, 0.05)
    assert score(interval.low) == pytest.approx(stats.norm.ppf(0.975), abs=1e-3)
    assert score(interval.high) == pytest.approx(-stats.norm.ppf(0.975), abs=1e-3)


#: (images, changed, drop): changed images in one direction alone, few, many
WORLDS = [(300, 0.02, 0.02), (200, 0.05, 0.02), (360, 0.12, 0.05), (1000, 0.3, 0.0)]


def simulate(images, changed, drop, trials=4000):
    rng = np.random.default_rng(20_26)
    chances = ((changed + drop) / 2, (changed - drop) / 2, 1 - changed)
    return rng.multinomial(images, chances, trials)[:, :2]


def finds(counts, alpha):
    lost, won = counts.T
    return (lost > won) & (2 * stats.binom.cdf(won, lost + won, 0.5) <= alpha)


@pytest.mark.parametrize(("images", "changed", "drop"), WORLDS)
def test_a_true_drop_is_seldom_above_the_interval(images, changed, drop):
    """`ok` says that a drop is excluded: false in about 2.5 % of the comparisons, nowhere in 4."""
    counts, ways = np.unique(simulate(images, changed, drop), axis=0, return_counts=True)
    highs = np.array([paired.drop_of_decisions(*pair, images, 0.05).high for pair in counts.tolist()])
    assert ways[highs < drop].sum() / ways.sum() <= 0.04


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 20])
@pytest.mark.parametrize(("images", "changed", "drop"), WORLDS[:3])
def test_power_is_the_share_of_simulated_comparisons_that_find_the_drop(images, changed, drop, alpha):
    """Multinomial images, and the binomial test by its lower tail."""
    counts, ways = np.unique(simulate(images, changed, drop), axis=0, return_counts=True)
    power = ways[finds(counts, alpha)].sum() / ways.sum()
    assert paired.mcnemar_power(images, changed, drop, alpha) == pytest.approx(power, abs=0.025)


@pytest.mark.parametrize("changed", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("drop", [0.02, 0.05])
def test_as_many_images_as_are_asked_for_find_the_drop(changed, drop):
    """So many images find the drop in 80 % of simulations, not many more; the detectable drop agrees."""
    alpha = 0.05 / 4
    images = paired.images_for_decisions(changed, drop, alpha)
    counts, ways = np.unique(simulate(images, max(changed, drop), drop), axis=0, return_counts=True)
    found = ways[finds(counts, alpha)].sum() / ways.sum()
    assert 0.78 <= found <= 0.84
    assert paired.detectable_by_decisions(images, changed, alpha) == pytest.approx(drop, rel=0.02)


@pytest.mark.parametrize("changed", [0.05, 0.2])
def test_as_many_images_as_are_asked_for_pass_what_is_unchanged(changed):
    """At least 80 % of simulated comparisons pass: the interval excludes the tolerated drop."""
    images = paired.images_for_decisions(changed, 0.02, 0.05)
    counts, ways = np.unique(simulate(images, changed, 0.0), axis=0, return_counts=True)
    highs = np.array([paired.drop_of_decisions(*pair, images, 0.05).high for pair in counts.tolist()])
    assert ways[highs <= 0.02].sum() / ways.sum() >= 0.78


def test_no_feasible_number_of_images_is_none():
    """And one image detects nothing."""
    assert paired.images_for_decisions(0.5, 1e-5, 0.05) is None
    assert paired.images_for_shares(0.5, 1e-5, 0.05) is None
    assert paired.detectable_by_decisions(1, 0.0, 0.05) == 1.0


def shares(rng, images, loss, draws=16):
    """Draws right before and after, of images that are mostly decided."""
    chances = rng.beta(0.5, 0.3, images)
    after = chances * (1 - loss * rng.uniform(0, 2, images))
    return rng.binomial(draws, chances) - rng.binomial(draws, np.clip(after, 0, 1))


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_the_interval_of_shares_covers(loss):
    """The expected drop is inside in 93 to 97 % of 2,000 trials."""
    rng = np.random.default_rng(7)
    truth = loss * 0.5 / 0.8  # mean of the Beta times the mean loss
    intervals = [paired.drop_of_shares(shares(rng, 200, loss) / 16, 0.05) for _ in range(2000)]
    assert 0.93 <= np.mean([low <= truth <= high for _, low, high in intervals]) <= 0.97


def test_as_many_images_as_are_asked_for_find_a_drop_of_shares():
    """So many images find a drop of shares in 80 % of 1,000 simulated comparisons by the exact test."""
    rng = np.random.default_rng(8)
    deviation = float((shares(rng, 100_000, 0.05) / 16).std())
    images = paired.images_for_shares(deviation, 0.05 * 0.5 / 0.8, 0.05)
    found = [paired.sign_flip_test(shares(rng, images, 0.05)) <= 0.05 for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)
    assert paired.detectable_by_shares(images, deviation, 0.05) == pytest.approx(0.03125, rel=0.02)


def test_exchanging_the_runs_turns_the_interval_around():
    """(lost, won) and (won, lost) are the same question."""
    there, back = paired.drop_of_decisions(9, 4, 77, 0.1), paired.drop_of_decisions(4, 9, 77, 0.1)
    assert there == pytest.approx((-back.estimate, -back.high, -back.low))


def test_the_interval_of_shares_is_that_of_the_central_limit():
    """Drops .1 and .3 have the standard error .1; ends stay within what a share can drop."""
    assert paired.drop_of_shares(np.array([0.1, 0.3]), 0.05) == pytest.approx(
        (0.2, 0.2 - 0.195996, 0.2 + 0.195996), abs=1e-6
    )
    assert paired.drop_of_shares(np.array([-1.0, 1.0]), 0.05) == (0.0, -1.0, 1.0)
    assert paired.drop_of_shares(np.array([0.25]), 0.05) == (0.25, -1.0, 1.0)


def test_more_than_ten_million_images_are_not_recommended():
    """Ten million are, and one more is not; at least one image is."""
    quantiles = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    for needed, expected in ((0.5, 1), (9_999_999.5, 10_000_000), (10_000_000.5, None)):
        assert paired.images_for_shares(0.3, 0.3 * quantiles / math.sqrt(needed), 0.05) == expected


@pytest.mark.parametrize(("drop", "images"), [(0.02, 189), (0.05, 73), (0.5, 4)])
def test_images_that_exclude_a_drop_if_nothing_changes(drop, images):
    """So many have Tango's upper limit z^2 / (n + z^2) at the drop or below, one fewer has not."""
    assert paired.images_without_change(drop) == images
    assert paired.drop_of_decisions(0, 0, images, 0.05).high <= drop
    assert paired.drop_of_decisions(0, 0, images - 1, 0.05).high > drop
