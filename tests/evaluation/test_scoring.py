"""Scoring: rules, invariances, the control."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.evaluation.cell import check_control, evaluate
from robustbench_sde.evaluation.numbers import summarise
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.base import ClassifierBase
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.sde.draws import Draws, Stream


def records_of(model, data, **settings):
    return score_records(model, data, to_float(data.images), ScoreSettings(**settings))


@pytest.mark.parametrize("kind", ["none", "additive", "multiplicative", "dropout"])
def test_records_do_not_depend_on_batch_size_or_order(kind):
    """Rows of 1, 7 and 64, and the images in reverse, give the same records to 1e-5."""
    model, data = make_model(kind), make_data(20)
    reference = records_of(model, data, rows=1000)
    for rows in (1, 7, 64):
        pd.testing.assert_frame_equal(records_of(model, data, rows=rows), reference, atol=1e-5, rtol=0)
    backwards = data.select(data.ids.flip(0))
    reverse = records_of(model, backwards, rows=7)[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(reverse, reference, atol=1e-5, rtol=0)


def test_records_of_equal_batches_agree_bit_for_bit():
    """Two equal calls give equal bits."""
    model, data = make_model(), make_data(20)
    pd.testing.assert_frame_equal(records_of(model, data), records_of(model, data), check_exact=True)


class Table(ClassifierBase):
    """A model whose draws are written down: (draws, images, classes) logits."""

    name, noise, sigma, stochastic = "table", "opaque", float("nan"), True
    image_shape, device, precision = (1, 12, 12), torch.device("cpu"), "fp32"

    def __init__(self, logits):
        self.table = torch.as_tensor(logits, dtype=torch.float32)
        self.classes = self.table.shape[2]

    def logits(self, images, ids, draws):
        return self.table[list(draws.indices)][:, torch.as_tensor(ids)]


def test_rules_decide_as_they_say():
    """Two draws barely for class 0 and one strongly for class 1: vote and single say 0, mean-prob 1."""
    logits = [[[0.2, 0.0, -9.0]], [[0.2, 0.0, -9.0]], [[0.0, 6.0, -9.0]]]
    data = dataclasses.replace(make_data(1, classes=3), labels=torch.tensor([0]), class_names=("a", "b", "c"))
    decisions = {
        rule: int(records_of(Table(logits), data, draws=3, rule=rule)["prediction"].iloc[0])
        for rule in ("mean-prob", "vote", "single")
    }
    assert decisions == {"mean-prob": 1, "vote": 0, "single": 0}


def test_a_tie_of_votes_goes_to_the_larger_mean_probability():
    """One vote each: the surer one wins, not the lower class."""
    data = dataclasses.replace(make_data(1, classes=3), labels=torch.tensor([0]))
    records = records_of(Table([[[0.1, 0.0, -9.0]], [[0.0, 5.0, -9.0]]]), data, draws=2, rule="vote")
    assert records["prediction"].tolist() == [1]


def test_records_hold_what_their_columns_say():
    """Each column recomputed by hand from the draws."""
    model, data = make_model(), make_data(9)
    images = to_float(data.images)
    moved = (images + 0.01).clamp(0, 1)
    records = score_records(model, data, moved, ScoreSettings(draws=16, seed=3))
    probs = model.logits(moved, data.ids, Draws(3, Stream.SCORE, range(16))).softmax(-1).numpy()
    labels = data.labels.numpy()
    mean = probs.mean(0)
    rows = np.arange(9)
    others = mean.copy()
    others[rows, labels] = -1
    rival = others.argmax(1)
    difference = probs[:, rows, labels] - probs[:, rows, rival]
    expected = {
        "prediction": mean.argmax(1),
        "correct": mean.argmax(1) == labels,
        "share_correct": (probs.argmax(2) == labels).mean(0),
        "label_probability": mean[rows, labels],
        "margin": mean[rows, labels] - mean[rows, rival],
        "margin_error": difference.reshape(8, 2, 9).mean(1).std(0, ddof=1) / np.sqrt(8),
        "confidence": mean.max(1),
        "brier": ((mean - np.eye(4)[labels]) ** 2).sum(1),
        "linf": (moved - images).abs().flatten(1).amax(1).numpy(),
        "l2": (moved - images).flatten(1).norm(dim=1).numpy(),
    }
    for name, values in expected.items():
        assert records[name].to_numpy() == pytest.approx(np.asarray(values), abs=1e-5), name


@pytest.mark.parametrize("rule", ["mean-prob", "vote"])
def test_records_of_auto_draws_are_those_of_as_many_draws(rule):
    """An image that was decided after n draws has the records that n draws give it, whatever the batch."""
    model, data = make_model(sigma=0.3), make_data(20)
    auto = records_of(model, data, draws="auto", rule=rule)
    assert auto["score_draws"].nunique() > 1
    assert set(auto["score_draws"]) <= {8, 16, 32, 64, 128, 256}
    for draws, own in auto.groupby("score_draws"):
        fixed = records_of(model, data, draws=int(draws), rule=rule).loc[own.index]
        pd.testing.assert_frame_equal(own, fixed, atol=1e-5, rtol=0)
    pd.testing.assert_frame_equal(records_of(model, data, draws="auto", rule=rule, rows=8), auto, atol=1e-5)
    assert summarise(auto)["mean_score_draws"] == auto["score_draws"].mean()


def test_auto_draws_of_a_deterministic_model_are_one():
    """There is nothing to average."""
    records = records_of(make_model("none"), make_data(5), draws="auto")
    assert records["score_draws"].tolist() == [1] * 5


def test_single_draw_of_a_random_model_has_no_interval_over_noise():
    """One draw says nothing about other draws; a deterministic model has nothing to say."""
    data = make_data(20)
    one = summarise(records_of(make_model(), data, draws=1))
    assert np.isnan(one["noise_low"])
    ode = summarise(records_of(make_model("none"), data))
    assert ode["noise_low"] == ode["noise_high"] == ode["accuracy"]
    assert ode["undecided"] == 0


def test_non_finite_logits_are_an_invalid_evaluation():
    """NaN logits name the image and never become a prediction."""
    logits = torch.zeros(1, 3, 3)
    logits[0, 1, 2] = torch.nan
    data = dataclasses.replace(make_data(3, classes=3))
    with pytest.raises(InvalidEvaluationError, match="image 1"):
        records_of(Table(logits), data, draws=1)


class Unkeyed(Table):
    """Noise from a hidden counter: the same call twice gives different logits."""

    calls = 0

    def __init__(self):
        super().__init__(torch.zeros(1, 1, 4))

    def logits(self, images, ids, draws):
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        shift = (images * 0).sum() if images.requires_grad else 0
        return torch.randn(len(draws), len(images), 4, generator=generator) + shift


def test_a_model_with_unkeyed_noise_fails_the_control():
    """Invariant 4: the eps = 0 row must equal the clean row, or the evaluation is invalid."""
    with pytest.raises(InvalidEvaluationError, match=r"control differs|remembers earlier calls"):
        rb.attack(Unkeyed(), make_data(6), "pgd", eps=0.1, steps=2)


def test_the_control_compares_every_number_but_the_cost():
    """A difference in the last bit of one column is found; passes may differ."""
    cell = evaluate(make_model(), make_data(6), Clean(), ScoreSettings())
    other = cell.records.assign(forward_passes=99)
    check_control(cell.records, other)
    other.loc[3, "margin"] = np.nextafter(other.loc[3, "margin"], 2)
    with pytest.raises(InvalidEvaluationError, match="1 of 6"):
        check_control(cell.records, other)


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_attack_in_five_lines(kind):
    """The library gives clean, control and attack rows; the control equals the clean row exactly."""
    result = rb.attack(make_model(kind), make_data(10), "pgd", norm="linf", eps=0.1, steps=3, seed=0)
    assert result.summary["perturbation"].tolist() == ["clean", "control", "pgd"]
    accuracy = [name for name in result.summary if "accuracy" in name or name.startswith("single_draw")]
    assert result.summary[accuracy].iloc[0].equals(result.summary[accuracy].iloc[1])
    assert result.images.shape == (10, 1, 12, 12)
    again = rb.score(make_model(kind), make_data(10), images=result.images)
    shared = ["prediction", "margin", "share_correct", "linf", "l2"]
    pd.testing.assert_frame_equal(again.records[shared], result.records[shared], check_exact=True)


def test_score_judges_any_images_and_refuses_invalid_ones():
    """uint8 and float images are scored; wrong shapes and ranges are refused."""
    model, data = make_model(), make_data(5)
    same = rb.score(model, data, images=data.images)
    assert same.records["linf"].max() == 0
    with pytest.raises(BenchError, match="images are"):
        rb.score(model, data, images=data.images[:3])
    with pytest.raises(InvalidEvaluationError, match="leaves"):
        rb.score(model, data, images=to_float(data.images) + 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "votes"}, "did you mean 'vote'"),
        ({"draws": 0}, "score_draws"),
        ({"draws": "auto", "rule": "single"}, "no more"),
        ({"rows": 0}, "batch_size"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
    ],
)
def test_wrong_settings_are_one_sentence(settings, message):
    """Unknown rules suggest the nearest; counts below one are refused."""
    with pytest.raises(BenchError, match=message):
        ScoreSettings(**settings)


def test_random_points_have_one_draw_each():
    """So many points are so many draws, each an answer of its own; without points nothing changes."""
    settings = ScoreSettings(draws=8, rule="vote", seed=3, try_draws=4)
    assert settings.at_points(5) == ScoreSettings(draws=5, rule="vote", seed=3, try_draws=1)
    assert settings.at_points(1).try_draws == 1
    assert settings.at_points(0) == settings


@pytest.mark.parametrize(
    ("draws", "stochastic", "images"),
    [(32, True, 8), (1, True, 256), (300, True, 1), ("auto", True, 32), (32, False, 256)],
)
def test_a_pass_has_as_many_rows_as_are_asked_for(draws, stochastic, images):
    """An image of a random model takes a row for each draw of a stage, any other one row; one always fits."""
    assert ScoreSettings(draws=draws, rows=256).images_per_batch(stochastic) == images
