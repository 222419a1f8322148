"""The victim where gradients are not finite, where losses have saturated, and what it counts."""

import math

import pytest
import torch
from builders import make_data, make_model
from torch import nn

from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.modules.adapter import Interface
from robustbench_sde.perturbations.attacks.health import SATURATED, GradientHealth
from robustbench_sde.perturbations.attacks.losses import margin_loss, weights_of_draws
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch

SHAPE = (1, 1, 3)


class Score(nn.Module):
    """Two classes, the first ahead by a function of the pixels (B, 3)."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, images):
        lead = self.score(images.flatten(1))
        return torch.stack((lead, torch.zeros_like(lead)), 1)


def victim(score, *pixels):
    """Make a victim, and its images, of rows of three pixels."""
    images = torch.tensor(pixels).view(-1, *SHAPE)
    batch = Batch(images, torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images)))
    model = Interface("net", SHAPE, 2, "none").around(Score(score).eval())
    return Victim(model, batch, seed=0, eot_draws=1, restart=0), images


def test_a_gradient_that_is_not_finite_is_taken_a_little_inside():
    """At black and white pixels with an infinite slope it is the slope a thousandth inside of [0, 1]."""
    eye, images = victim(lambda x: (x.sqrt() - (1 - x).sqrt()).sum(1), [0.0, 1.0, 0.25])
    _, gradient = eye.gradient(images, 0, margin_loss)
    edge = 0.5 / math.sqrt(1e-3) + 0.5 / math.sqrt(1 - 1e-3)
    inside = 0.5 / math.sqrt(0.25) + 0.5 / math.sqrt(0.75)
    assert gradient.flatten().tolist() == pytest.approx([-edge, -edge, -inside], rel=1e-3)
    assert eye.health.shares[0].tolist() == [0, 1, 0, 0]


def test_a_gradient_that_is_nowhere_finite_is_zero_there_and_right_elsewhere():
    """NaN at one pixel, wherever the image lies, does not spoil the others."""
    eye, images = victim(lambda x: x.sum(1) + (x[:, 0] - x[:, 0]).sqrt(), [0.3, 0.4, 0.5])
    _, gradient = eye.gradient(images, 0, margin_loss)
    assert gradient.flatten().tolist() == [0, -1, -1]


def test_gradients_of_other_libraries_are_finite():
    """An infinite slope of the log-probabilities arrives as zero, and is counted."""
    eye, images = victim(lambda x: x.sqrt().sum(1) - x[:, 2], [0.0, 0.25, 0.0])
    x = images.clone().requires_grad_()
    eye.log_probs(x, 0)[0, 0].backward()
    p = 1 / (1 + math.exp(0.5))
    assert x.grad.flatten().tolist() == pytest.approx([0, p, 0])
    assert eye.health.shares[0, :3].tolist() == [0, 1, 0]
    assert eye.backward_passes.tolist() == [1]


@pytest.mark.parametrize(("lead", "seen"), [(13.0, 13.0), (15.0, 10.0), (1000.0, 10.0), (-50.0, -50.0)])
def test_log_probabilities_of_saturated_images_are_scaled_to_a_margin_of_ten(lead, seen):
    """Other libraries get a softmax that has a gradient there, and the decision is the same."""
    eye, images = victim(lambda x: x.sum(1) + lead, [0.0, 0.0, 0.0])
    scaled = eye.log_probs(images.clone().requires_grad_(), 0)[0].detach()
    assert float(scaled[0] - scaled[1]) == pytest.approx(seen, rel=1e-5)
    plain = eye.log_probs(images, 0)[0]
    assert float(plain[0] - plain[1]) == pytest.approx(lead, rel=1e-5)


def test_draws_that_fit_take_one_pass(monkeypatch):
    """More rows than the limit are passed image by image; draws of one image that do not fit, part by part.

    These are passed once more before that, for the weights of the draws.
    """
    passes, whole = [], Classifier.logits

    def logits(self, images, ids, draws):
        passes.append(len(draws))
        return whole(self, images, ids, draws)

    monkeypatch.setattr(Classifier, "logits", logits)
    model, data = make_model(), make_data(2)
    batch = Batch(to_float(data.images), data.labels, data.ids)
    for rows, expected in ((16, [8]), (15, [8, 8]), (7, [7, 1] * 4), (1, [1] * 32)):
        passes.clear()
        Victim(model, batch, seed=0, eot_draws=8, restart=0, rows=rows).gradient(batch.images, 0)
        assert passes == expected


def test_draws_in_which_no_other_class_has_any_probability_count_nothing():
    """No draw has a gradient to weigh where all give the label with probability one."""
    sure = torch.tensor([0.0, -math.inf]).expand(3, 1, 2)
    assert weights_of_draws(sure, torch.zeros(1, dtype=torch.int64)).tolist() == [[0.0]] * 3


#: what is counted: peak of a gradient, margin, whether the loss saturates; and zero, not finite, saturated
SIGNS = [
    (0.0, 1.0, True, (1, 0, 0)),
    (0.0, 0.0, True, (1, 0, 0)),
    (0.0, -1.0, True, (0, 0, 0)),  # it is fooled and needs no gradient
    (1.0, 1.0, True, (0, 0, 0)),
    (math.nan, 1.0, True, (0, 1, 0)),
    (math.inf, 1.0, True, (0, 1, 0)),
    (1.0, SATURATED + 0.01, True, (0, 0, 1)),
    (1.0, SATURATED - 0.01, True, (0, 0, 0)),
    (1.0, SATURATED + 0.01, False, (0, 0, 0)),
]


@pytest.mark.parametrize(("peak", "margin", "can_saturate", "signs"), SIGNS)
@pytest.mark.parametrize("times", [1, 64, 65])
def test_a_gradient_is_counted_by_its_largest_entry_and_its_margin(peak, margin, can_saturate, signs, times):
    """The shares are those of all gradients of an image, however many are counted together."""
    health = GradientHealth(2, torch.device("cpu"))
    gradient = torch.zeros(1, 1, 2, 2)
    gradient[0, 0, 1, 0] = -peak
    here = torch.tensor([1])
    for _ in range(times):
        found = health.count(here, gradient, torch.tensor([margin]), can_saturate=can_saturate)
    assert found.isnan().all() if math.isnan(peak) else found.tolist() == [peak]
    health.count(here, torch.ones(1, 1, 2, 2), torch.ones(1), can_saturate=True)
    assert health.shares[1, :3].tolist() == pytest.approx([sign * times / (times + 1) for sign in signs])
    assert health.shares[0].isnan().all()


def test_misleading_gradients_are_a_share_of_those_that_were_compared():
    """One of two comparisons was wrong; counts of another run on the same images are added."""
    health, other = (GradientHealth(3, torch.device("cpu")) for _ in range(2))
    rows = torch.tensor([0, 1])
    assert health.unchecked(torch.arange(3)).all()
    health.check(rows, torch.tensor([True, False]))
    assert health.unchecked(torch.arange(3)).tolist() == [False, False, True]
    assert health.shares[:2, 3].tolist() == [1, 0]
    other.check(rows, torch.tensor([False, False]))
    health.add(other)
    assert health.shares[:2, 3].tolist() == [0.5, 0]


def test_a_victim_without_noise_counts_passes_and_not_the_health_of_its_gradients():
    """A pass of the drift alone is counted for its image; bad gradients are not those of the model."""
    data = make_data(3)
    images = to_float(data.images)
    model = make_model()
    eye = Victim(model, Batch(images, data.labels, data.ids), seed=0, eot_draws=4, restart=0)
    silent = eye.without_noise()
    look, _ = silent.only(torch.tensor([2])).gradient(images[2:], 0, margin_loss)
    drift = model.without_noise()
    exact = Victim(drift, Batch(images, data.labels, data.ids), seed=1, eot_draws=1, restart=0)
    assert look.margin == pytest.approx(exact.look(images, 5).margin[2:].tolist(), abs=1e-5)
    assert eye.forward_passes.tolist() == eye.backward_passes.tolist() == [0, 0, 1]
    assert eye.health.shares.isnan().all()
    assert exact.without_noise() is None
