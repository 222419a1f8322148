"""Attackers who may try again: estimates, limits, and the command line."""

import numpy as np
import pandas as pd
import pytest
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.tries import survival


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
