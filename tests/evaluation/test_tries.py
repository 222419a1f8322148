"""Attackers who may try again: estimates, limits, and the command line."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_data, make_model
from scipy.special import betaln
from scipy.stats import beta, binom

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.bounds import survives
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.tries import check_tries, is_deterministic, most_tries, survival
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source
from robustbench_sde.sde.draws import Draws, Stream


def records(shares, draws):
    """Return records of images whose draws are right so often."""
    return pd.DataFrame({"share_correct": shares, "score_draws": draws, "margin_error": [0.1] * len(shares)})


def test_one_try_is_the_single_draw_accuracy():
    """Estimate and interval of one try equal the single-draw columns of the summary."""
    result = rb.attack(make_model(), make_data(), "pgd", eps=0.1, steps=2, eot_draws=2, score_draws=8)
    row = result.summary.iloc[-1]
    expected = (row["single_draw_accuracy"], row["single_draw_low"], row["single_draw_high"])
    np.testing.assert_allclose(result.survives(1), expected)


def test_more_tries_find_more():
    """An image that half of 4 draws get right survives two tries in one of six cases."""
    assert survival(records([0.5, 1.0], [4, 4]), 2).estimate == pytest.approx((1 / 6 + 1) / 2)
    assert survival(records([0.5, 1.0], [4, 4]), 3).estimate == pytest.approx(0.5)


def test_simulated_tries_agree():
    """Over images with known p the estimate from 32 draws agrees with p^10, and the interval covers it."""
    dice = np.random.default_rng(0)
    p = dice.beta(2, 0.3, 4_000)
    found = survival(records(dice.binomial(32, p) / 32, [32] * 4_000), 10)
    assert found.estimate == pytest.approx((p**10).mean(), abs=0.01)
    assert found.low <= (p**10).mean() <= found.high


def test_too_many_tries_are_refused():
    """More tries than score draws is one sentence that says how many draws would do."""
    with pytest.raises(BenchError, match="20 tries cannot be estimated from 8 score draws: take 20 or more"):
        survival(records([1.0], [8]), 20)


def test_a_deterministic_classifier_answers_alike():
    """Without noise any number of tries gives the accuracy."""
    result = rb.attack(make_model("none"), make_data(), "pgd", eps=0.1, steps=2)
    assert result.survives(100).estimate == result.summary["accuracy"].iloc[-1]


@pytest.mark.parametrize(("draws", "tries", "p"), [(8, 3, 0.7), (20, 10, 0.9), (5, 5, 0.4)])
def test_the_estimator_is_unbiased(draws, tries, p):
    """Over all outcomes of n draws, weighted by their probability, C(c, k) / C(n, k) is p^k."""
    right = np.arange(draws + 1)
    estimates = survives(right, np.full(draws + 1, draws), tries)
    assert binom.pmf(right, draws, p) @ estimates == pytest.approx(p**tries)


@pytest.mark.parametrize(("draws", "tries"), [(8, 2), (8, 4), (9, 5), (7, 3)])
@pytest.mark.parametrize("both", [0.0, 0.3, 0.55, 0.7])
def test_the_estimator_from_pairs_is_unbiased(draws, tries, both):
    """Whatever the draws of a pair have to do with each other, the mean of many estimates is p^k, p = .7."""
    p, dice = 0.7, np.random.default_rng(0)
    both = max(both, 2 * p - 1)
    one = dice.random((200_000, draws // 2))
    counts = np.where(one < both, 2, np.where(one < 2 * p - both, 1, 0))
    last = dice.random(200_000) < p if draws % 2 else np.zeros(200_000, bool)
    right = counts.sum(1) + last
    split = (counts == 1).sum(1)
    estimates = survives(right, np.full(200_000, draws), tries, split)
    assert estimates.mean() == pytest.approx(p**tries, abs=5 * estimates.std() / 200_000**0.5)


def test_odd_blocks_begin_at_even_draws():
    """At 3 draws a submission, 11 draws make answers of draws 0-2, 4-6 and 8-10, which are independent."""
    model, data = make_model(sigma=2.0), make_data(40)
    result = rb.score(model, data, score_draws=11, try_draws=3)
    with torch.no_grad():
        probs = model.logits(to_float(data.images), data.ids, Draws(0, Stream.SCORE, range(11))).softmax(-1)
    blocks = torch.stack([probs[first : first + 3].mean(0) for first in (0, 4, 8)])
    right = (blocks.argmax(-1) == data.labels).sum(0)
    assert (result.records["tries"] == 3).all()
    np.testing.assert_array_equal(result.records["tries_right"], right.double())


@pytest.mark.parametrize("draws", [6, 7])
def test_records_say_which_pairs_are_split(draws):
    """`tries_split` counts the pairs of which one draw alone is right; survival follows from it."""
    model, data = make_model(sigma=2.0), make_data(40)
    result = rb.score(model, data, score_draws=draws)
    with torch.no_grad():
        logits = model.logits(to_float(data.images), data.ids, Draws(0, Stream.SCORE, range(draws)))
    right = (logits.argmax(-1) == data.labels).numpy()
    split = right[0:6:2] != right[1:6:2]
    np.testing.assert_array_equal(result.records["tries_split"], split.sum(0))
    shares = [*right[:6].reshape(3, 2, -1).mean(1), *right[6:]]
    pairs = [one * other for at, one in enumerate(shares) for other in shares[:at]]
    assert result.survives(2).estimate == pytest.approx(np.mean(pairs))
    assert rb.score(make_model("none"), data).records["tries_split"].isna().all()


#: laws of the probability of an image to be right: mostly right, undecided or rare, mostly wrong
LAWS = [(2, 0.3), (0.3, 0.3), (5, 5), (0.5, 2)]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("draws", "tries"), [(32, 2), (32, 10), (100, 100)])
def test_the_interval_covers(law, draws, tries):
    """The interval holds the true share of survivors in 93 % or more of 1,000 samples of 100 images."""
    dice = np.random.default_rng(3)
    a, b = law
    truth = np.exp([betaln(a + tries, b) - betaln(a, b)])[0]
    held = 0
    for _ in range(1000):
        right = dice.binomial(draws, dice.beta(a, b, 100))
        found = survival(records(right / draws, [draws] * 100), tries)
        held += found.low <= truth <= found.high
    assert held >= 930


def test_draws_that_stop_by_what_they_see_are_refused():
    """Numbers of draws that depend on the outcome bias the estimate: only one try is told."""
    stopped = records([1.0, 0.5], [8, 256])
    with pytest.raises(BenchError, match=r"if scoring stops each image .* take 2 score draws or more"):
        survival(stopped, 2)
    assert survival(stopped, 1).estimate == pytest.approx(0.75)


def test_every_row_of_a_random_classifier_has_the_columns():
    """Columns survives_2, _10 and _100 are what `survives` says, and NaN for more tries than draws."""
    result = rb.attack(make_model(), make_data(), "pgd", eps=0.1, steps=1, eot_draws=1, score_draws=20)
    for place, row in result.summary.iterrows():
        for tries in (2, 10):
            ends = [row[f"survives_{tries}{end}"] for end in ("", "_low", "_high")]
            np.testing.assert_allclose(result.survives(tries, place), ends)
        assert np.isnan(row["survives_100"])
        assert np.isnan(row["survives_100_low"])
    assert (result.summary["survives_2"] < result.summary["single_draw_accuracy"]).any()


def test_columns_of_a_deterministic_classifier_are_its_accuracy():
    """An ODE answers every try alike, whatever the number."""
    row = rb.attack(make_model("none"), make_data(), "pgd", eps=0.1, steps=1).summary.iloc[-1]
    assert row["survives_2"] == row["survives_100"] == row["accuracy"]


@pytest.mark.parametrize("rule", ["mean-prob", "vote"])
def test_blocks_of_draws_answer_by_the_rule(rule):
    """At 4 draws a submission, 14 draws make three answers of the rule over draws 0-3, 4-7 and 8-11."""
    model, data = make_model(sigma=2.0), make_data(40)
    result = rb.score(model, data, score_draws=14, rule=rule, try_draws=4)
    with torch.no_grad():
        probs = model.logits(to_float(data.images), data.ids, Draws(0, Stream.SCORE, range(12))).softmax(-1)
    values = probs
    if rule == "vote":
        values = torch.nn.functional.one_hot(probs.argmax(-1), 4) + 1e-6 * probs
    right = (values.unflatten(0, (3, 4)).mean(1, dtype=torch.float32).argmax(-1) == data.labels).sum(0)
    assert (result.records["tries"] == 3).all()
    np.testing.assert_array_equal(result.records["tries_right"], right.double())
    assert result.survives(1).estimate == pytest.approx(float(right.double().mean()) / 3)
    assert result.survives(3).estimate == pytest.approx(float((right == 3).double().mean()))
    assert result.records["tries_split"].isna().all()
    single = rb.score(model, data, score_draws=14, rule=rule)
    assert (single.records["tries_right"] == (14 * single.records["share_correct"]).round()).all()
    assert (result.records["tries_right"] != right.mode().values).any()
    with pytest.raises(BenchError, match="4 tries cannot be estimated from 14 score draws: take 16 or more"):
        result.survives(4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 4, "try_draws": 8}, "more than the 4 score draws"),
        ({"draws": "auto", "try_draws": 2}, "`score_draws` is auto; several draws an answer"),
        ({"draws": 8, "rule": "single", "try_draws": 2}, "rule is single"),
        ({"try_draws": 0}, "must be at least 1"),
    ],
)
def test_draws_of_an_answer_that_make_no_sense_are_refused(settings, message):
    """One sentence each."""
    with pytest.raises(BenchError, match=message):
        ScoreSettings(**settings)


def test_keys_of_cells_stay_without_blocks():
    """A cell of single-draw answers has the key of versions that knew no other; blocks are other work.

    With noise the key holds the definition of the noise besides, and the key of definition 1 is known.
    """
    data, source = make_data(3), Source("net", "sha256:aa", kinds=())
    random = Cell(Source("net", "sha256:aa"), Clean(), ScoreSettings(32))
    assert random.key(data) != "53db9ac14d9aadbc"
    assert "noise definition 1" in random.earlier_keys(data)["53db9ac14d9aadbc"]
    plain, blocks = (Cell(source, Clean(), ScoreSettings(32, try_draws=size)).key(data) for size in (1, 4))
    assert plain == "53db9ac14d9aadbc"
    assert plain != blocks


def test_shares_have_intervals():
    """Ends of share_correct are those of Clopper and Pearson, a pair a trial; without noise the share."""
    random = rb.score(make_model(), make_data(), score_draws=12).records
    for row in random.to_dict("records"):
        right = round(12 * row["share_correct"]) / 2
        low = 0.0 if right == 0 else beta.ppf(0.025, right, 7 - right)
        high = 1.0 if right == 6 else beta.ppf(0.975, right + 1, 6 - right)
        assert (row["share_low"], row["share_high"]) == pytest.approx((low, high))
    still = rb.score(make_model("none"), make_data()).records
    assert (still["share_low"] == still["share_correct"]).all()
    assert (still["share_high"] == still["share_correct"]).all()


@pytest.mark.parametrize(
    ("draws", "errors", "expected"),
    [
        ([1, 1], [0, 0], True),
        ([1, 1], [math.nan, 0], False),
        ([2, 2], [0, 0], False),
        ([1, 1], [0.1, 0], False),
    ],
)
def test_a_classifier_without_noise_is_known_by_its_records(draws, errors, expected):
    """One draw whose margin has no error is that of a classifier without noise."""
    assert is_deterministic(pd.DataFrame({"score_draws": draws, "margin_error": errors})) is expected


@pytest.mark.parametrize(("draws", "most"), [([8, 8, 8], 8), ([8, 16, 8], 1), ([1], 1)])
def test_so_many_tries_can_be_told(draws, most):
    """Every draw is a try, unless images have different numbers of draws."""
    records = pd.DataFrame({"score_draws": draws, "share_correct": 1.0})
    assert most_tries(records) == most


@pytest.mark.parametrize(
    ("tries", "draws", "size", "message"),
    [
        (0, 8, 1, "`tries` is 0; it must be at least 1"),
        (9, 8, 1, "9 tries cannot be estimated from 8 score draws: take 17 or more"),
        (5, 8, 1, "5 tries cannot be estimated from 8 score draws: take 9 or more"),
        (3, 10, 3, "3 tries cannot be estimated from 10 score draws: take 11 or more"),
        (3, 8, 4, "3 tries cannot be estimated from 8 score draws: take 12 or more"),
        (
            2,
            "auto",
            1,
            "2 tries cannot be estimated if scoring stops .* take 3 score draws or more",
        ),
        (4, 7, 1, None),
        (3, 11, 3, None),
        (2, 8, 4, None),
        (1, "auto", 1, None),
    ],
)
def test_tries_are_checked_before_anything_is_scored(tries, draws, size, message):
    """A try takes a block of draws; too few say how many would do."""
    if message is None:
        check_tries(tries, draws, try_draws=size)
        return
    with pytest.raises(BenchError, match=message):
        check_tries(tries, draws, try_draws=size)
