"""Noise with samples: probabilities that a random perturbation leaves the prediction right."""

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_data, make_model
from scipy.stats import beta

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.bounds import clopper_pearson
from robustbench_sde.evaluation.random_points import random_numbers, reaching
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source
from robustbench_sde.sde.draws import Draws, Stream

LAWS = [(norm, law) for norm in ("linf", "l2") for law in ("uniform", "gaussian")]


def test_without_samples_the_row_and_its_key_are_those_of_before():
    """Keys of noise and its control are those of the version without samples; samples are other work."""
    data, source = make_data(3), Source("net", "sha256:aa", kinds=())

    def key(perturbation):
        return Cell(source, perturbation, ScoreSettings(32)).key(data)

    assert key(make_attack("noise", eps=0.1)) == "f4358d6d0b978004"
    assert key(Control(make_attack("noise", eps=0.1, norm="l2"))) == "337742db0539e146"
    keys = {key(make_attack("noise", eps=0.1, samples=9, law=law)) for law in ("uniform", "gaussian")}
    assert len(keys | {"f4358d6d0b978004"}) == 3
    row = rb.attack(make_model(), make_data(), "noise", eps=0.1, score_draws=4).summary.iloc[-1]
    assert row["samples"] == 0
    assert np.isnan(row["random_accuracy"])
    assert row["score_draws"] == 4


@pytest.mark.parametrize(("norm", "law"), LAWS)
def test_points_are_in_the_ball_and_keyed_by_image_alone(norm, law):
    """A point is the same to the bit in any batch, another one for each number, and an image of the ball."""
    attack = make_attack("noise", norm=norm, eps=0.3, samples=5, law=law)
    data = make_data(40)
    images = to_float(data.images)
    whole = attack.point(images, data.ids, 0, 3)
    for size in (1, 7):
        parts = [
            attack.point(images[start : start + size], data.ids[start : start + size], 0, 3)
            for start in range(0, 40, size)
        ]
        assert torch.equal(torch.cat(parts), whole)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert (attack.budget.norm.size(whole - images) <= 0.3 + 1e-6).all()
    assert not torch.equal(attack.point(images, data.ids, 0, 4), whole)
    assert not torch.equal(attack.point(images, data.ids, 1, 3), whole)


def test_laws_are_what_they_say():
    """Grey images get uniform numbers in linf, lengths uniform in volume in l2, and cut normal numbers."""
    grey, ids = torch.full((400, 1, 12, 12), 0.5), torch.arange(400)

    def change(norm, law):
        return make_attack("noise", norm=norm, eps=0.2, samples=1, law=law).point(grey, ids, 0, 0) - 0.5

    flat = change("linf", "uniform").flatten() / 0.2
    assert abs(float(flat.mean())) < 0.01
    assert float(flat.square().mean()) == pytest.approx(1 / 3, abs=0.01)
    lengths = change("l2", "uniform").flatten(1).norm(dim=1) / 0.2
    assert float((lengths**144).mean()) == pytest.approx(0.5, abs=0.05)
    normal = change("linf", "gaussian").flatten() / 0.2
    assert float((normal.abs() > 0.999).float().mean()) == pytest.approx(0.317, abs=0.01)
    assert float(normal.std()) == pytest.approx(0.718, abs=0.01)
    assert change("l2", "gaussian").flatten(1).norm(dim=1).max() <= 0.2 + 1e-6


@pytest.mark.parametrize("kind", ["multiplicative", "none"])
@pytest.mark.parametrize("batch_size", [5, 256])
def test_every_sample_is_a_point_and_a_draw_of_its_own(kind, batch_size):
    """Share of right answers by hand: draw 2k of the model at point k; exact interval of every image."""
    model, data = make_model(kind, sigma=1.5), make_data(9)
    result = rb.attack(
        model, data, "noise", eps=0.4, samples=13, score_draws=4, seed=5, batch_size=batch_size
    )
    attack = make_attack("noise", eps=0.4, samples=13)
    images, right = to_float(data.images), torch.zeros(9)
    with torch.no_grad():
        for k in range(13):
            point = attack.point(images, data.ids, 5, k)
            draw = 2 * k if kind != "none" else 0
            logits = model.logits(point, data.ids, Draws(5, Stream.SCORE, range(draw, draw + 1)))
            right += logits[0].argmax(1) == data.labels
    records, row = result.records, result.summary.iloc[-1]
    np.testing.assert_allclose(records["share_correct"], right / 13)
    assert (records["score_draws"] == 13).all()
    for share, low, high in records[["share_correct", "share_low", "share_high"]].to_numpy():
        exact = clopper_pearson(round(13 * share), 13)
        assert (low, high) == pytest.approx((exact.low, exact.high))
    assert (row["samples"], row["score_draws"], row["forward_passes"]) == (13, 13, 0)
    assert row["random_accuracy"] == pytest.approx(float(right.mean()) / 13)
    assert row["reaches_90"] == pytest.approx(float((right >= 12).float().mean()))
    assert row["random_low"] <= row["random_accuracy"] <= row["random_high"]
    assert records["linf"].max() <= 0.4 + 1e-6
    assert records["linf"].min() > 0


def test_with_nothing_to_spend_the_samples_are_draws_of_the_clean_images_that_do_not_mirror_each_other():
    """At eps 0 the samples are the even draws of the clean images, which are independent."""
    model, data = make_model(sigma=1.5), make_data()
    result = rb.attack(model, data, "noise", eps=[0.0], samples=8, score_draws=16)
    with torch.no_grad():
        logits = model.logits(to_float(data.images), data.ids, Draws(0, Stream.SCORE, range(0, 16, 2)))
    right = (logits.argmax(2) == data.labels).double().mean(0)
    np.testing.assert_array_equal(result.records_of(2)["share_correct"], right)
    assert right.unique().numel() > 2


#: laws of the probability of an image: nearly all sure, high, undecided, sure or lost
IMAGES = [(2, 0.1), (20, 1), (5, 5), (0.3, 0.3)]


@pytest.mark.parametrize("law", IMAGES)
@pytest.mark.parametrize("samples", [20, 100])
def test_intervals_hold_images_and_samples(law, samples):
    """The intervals of 300 samples of 100 images hold the truth in 93 % or more: the mean, and each share."""
    dice = np.random.default_rng(2)
    a, b = law
    held = np.zeros(4)
    for _ in range(300):
        shares = dice.binomial(samples, dice.beta(a, b, 100)) / samples
        row = random_numbers(_records(shares, samples))
        held[0] += row["random_low"] <= a / (a + b) <= row["random_high"]
        for place, percent in enumerate((90, 95, 99), 1):
            truth = beta.sf(percent / 100, a, b)
            held[place] += row[f"reaches_{percent}_low"] <= truth <= row[f"reaches_{percent}_high"]
    assert held.min() >= 0.93 * 300


def test_the_worst_case_of_the_share_is_held():
    """Images that all lie just below the level, or on it: the interval of the share holds 0, and 1."""
    dice = np.random.default_rng(0)
    below = [reaching(dice.binomial(400, 0.899, 100), 400, 0.9) for _ in range(300)]
    above = [reaching(dice.binomial(400, 0.9, 100), 400, 0.9) for _ in range(300)]
    assert np.mean([one.low <= 0 for one in below]) >= 0.95
    assert np.mean([one.high >= 1 for one in above]) >= 0.95


def test_few_samples_show_no_high_probability():
    """A hundred right ones of a hundred do not show a probability of .99: the interval begins at 0."""
    share = reaching(np.full(50, 100), 100, 0.99)
    assert (share.estimate, share.low, share.high) == (1.0, 0.0, 1.0)
    assert reaching(np.full(50, 500), 500, 0.99).low > 0.9


@pytest.mark.parametrize(
    ("names", "parameters", "message"),
    [
        ("pgd", {"samples": 5}, "pgd takes no `samples`"),
        ("noise", {"law": "gaussian"}, "needs a number of `samples`"),
        ("noise", {"law": "normal", "samples": 3}, "law of noise"),
        ("noise", {"samples": -1}, "at least 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(names, parameters, message):
    """One sentence each."""
    with pytest.raises(BenchError, match=message):
        rb.attack(make_model(), make_data(), [names], eps=0.1, **parameters)


def _records(shares, samples):
    return pd.DataFrame({"share_correct": shares, "score_draws": np.full(len(shares), samples)})
