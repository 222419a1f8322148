"""Images that will stand leave an attack, and nobody else does."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.perturbations.attacks.health import SATURATED
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.losses import cross_entropy
from robustbench_sde.perturbations.attacks.opening import joined
from robustbench_sde.perturbations.attacks.reach import STANDS, Reach
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Perturbed
from robustbench_sde.perturbations.norms import Ball, get_norm
from robustbench_sde.sde.draws import Draws, Stream

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
GREY = torch.full((1, 1, 2, 2), 0.5)
LABEL = torch.zeros(1, dtype=torch.int64)


def seen(odds: Tensor, error: float = 0.0) -> Look:
    """A look at two classes whose log odds for the first are `odds`, (1,)."""
    log_probs = torch.stack((odds, torch.zeros_like(odds)), 1).log_softmax(1)
    return Look(odds.detach(), torch.full((1,), error), log_probs, torch.zeros(1))


def reach_after(path, lead, weight, eps=0.1, norm="linf", curve=0.0, error=0.0):
    """Reach of an image with log odds `lead - weight s - curve s^2`, s the sum of changes, along a path."""
    reach = Reach(Ball(get_norm(norm), eps), GREY)
    for change in path:
        x = (GREY + change).requires_grad_()
        total = (x - GREY).sum()
        odds = (lead - weight * total - curve * total**2)[None]
        log_probs = torch.stack((odds, torch.zeros_like(odds)), 1).log_softmax(1)
        (gradient,) = torch.autograd.grad(cross_entropy(log_probs, LABEL).sum(), x)
        reach.learn(x.detach(), seen(odds.detach(), error), gradient, LABEL, torch.tensor([0]), 3.0)
    return float(reach.of(torch.tensor([0])))


@pytest.mark.parametrize("lead", [3.0, 9.0, SATURATED + 5])
@pytest.mark.parametrize("path", [[0.0], [0.0, 0.05], [0.0, 0.05, 0.1]])
def test_the_reach_of_a_plane_is_that_of_its_boundary(lead, path):
    """Four pixels of slope 5 lose 4 x 5 x eps; wherever the path has been, saturated or not."""
    assert reach_after(path, lead, 5.0) == pytest.approx(lead / (4 * 5.0 * 0.1), rel=1e-3)
    assert reach_after(path, lead, 5.0, norm="l2") == pytest.approx(lead / (2 * 5.0 * 0.1), rel=1e-3)


def test_a_slope_that_grows_along_the_path_counts_twice():
    """Log odds 6 - 5 s - 5 s^2 fall faster and faster: at the corner s = .4 the most they can lose is 3.6."""
    first = 4 * 5.0 * 0.1
    at_corner = 5.0 * 0.4 + 5.0 * 0.4**2  # what they have lost, with nothing left to gain
    half = 5.0 * 0.2 + 5.0 * 0.2**2 + (5.0 + 2 * 5.0 * 0.2) * 0.2
    most = max(first, at_corner, half)
    found = reach_after([0.0, 0.05, 0.1], 6.0, 5.0, curve=5.0)
    assert found == pytest.approx(6.0 * first / most**2, rel=1e-3)
    assert found < 6.0 / at_corner  # less than the truth at this eps


@pytest.mark.parametrize(
    ("lead", "weight", "error"),
    [(-1.0, 0.1, 0.0), (0.5, 0.1, 0.2), (5.0, 0.0, 0.0), (5.0, math.nan, 0.0)],
    ids=["wrong", "within its error", "no gradient", "not a number"],
)
def test_an_image_in_doubt_has_no_reach(lead, weight, error):
    """Wrong, not right by three standard errors, or with a gradient that says nothing: it goes on."""
    assert reach_after([0.0], lead, weight, error=error) <= 0


def test_the_walls_of_the_image_space_take_from_what_a_ball_can_do():
    """A black image in a ball of linf .1 that only darkness would hurt cannot be hurt at all."""
    ball, black = Ball(get_norm("linf"), 0.1), torch.zeros(1, 1, 2, 2)
    assert float(ball.gain(black, black, -torch.ones_like(black))) == 0
    assert float(ball.gain(black, black, torch.ones_like(black))) == pytest.approx(0.4)


@pytest.fixture(scope="module", params=["ode", "multiplicative"])
def runs(request, digits):
    """Model, data, and what pgd makes with and without leaving, at a budget at which some images stand."""
    model, data = rb.load_checkpoint(CHECKPOINTS / f"digits-{request.param}.safetensors"), digits.subset(30)

    def run(settle):
        attack = make_attack("pgd", eps=0.01, steps=10, eot_draws=4, settle=settle, random_start=False)
        return attack(model, to_float(data.images), data.labels, data.ids)

    return model, data, run(True), run(False)


def test_images_that_leave_standing_stand_after_all_steps_too(runs):
    """Some leave once pgd has gone as far as eps, after four of ten steps; they are right on fresh draws."""
    model, data, early, full = runs
    draws = 4 if model.stochastic else 1
    right = [
        torch.tensor(rb.score(model, data, made.images, score_draws=64).records["correct"].to_numpy())
        for made in (early, full)
    ]
    left = (early.backward_passes == 5 * draws) & right[0]
    assert 5 < left.sum() < len(data)
    assert right[1][left].all()


def test_only_networks_of_ours_may_stand(digits):
    """The slope of somebody's module may be a trap: no image of it leaves because of its slope."""
    model, data = rb.load_checkpoint(CHECKPOINTS / "digits-ode.safetensors"), digits.subset(20)

    class Module(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return model.logits(images, range(len(images)), Draws(0, Stream.ATTACK))[0]

    foreign = rb.as_classifier(Module().eval(), data)
    attack = make_attack("pgd", eps=1e-3, steps=10, random_start=False)
    ours, theirs = (attack(one, to_float(data.images), data.labels, data.ids) for one in (model, foreign))
    assert (ours.backward_passes == 5).sum() > 10
    assert not (theirs.backward_passes == 5).any()


def test_auto_lets_images_stand_without_the_noise_and_with_it(digits):
    """At a tiny budget most images take the few passes of the opening; `settle=false` runs all members."""
    model, data = rb.load_checkpoint(CHECKPOINTS / "digits-multiplicative.safetensors"), digits.subset(20)
    parameters = {"eps": 2e-3, "steps": 10, "eot_draws": 2, "queries_per_step": 1, "depth": 1}
    early, full = (
        make_attack("auto", **parameters, settle=settle)(model, to_float(data.images), data.labels, data.ids)
        for settle in (True, False)
    )
    assert (early.backward_passes <= 8).sum() > 10
    assert (full.backward_passes == 20).all()
    records = [rb.score(model, data, made.images, score_draws=64).records for made in (early, full)]
    assert (records[0]["correct"] == records[1]["correct"]).all()
    assert set(early.chosen) <= {"pgd without noise", "pgd"}
    assert STANDS > 1.5


def test_the_worse_of_two_points_is_kept_and_passes_add_up():
    """The rest of a batch is joined by position; the other images keep what the opening made."""

    def made(value: float, margins: list[float], name: str) -> Perturbed:
        count = len(margins)
        passes = torch.full((count,), 3)
        images = torch.full((count, 1, 1, 1), value)
        return Perturbed(
            images, passes, passes + 1, passes + 2, (name,) * count, margins=torch.tensor(margins)
        )

    rest = torch.tensor([2, 0])
    whole = joined(made(0.1, [1.0, 2.0, 3.0], "first"), made(0.2, [0.5, 9.0], "later"), rest)
    assert whole.images.flatten().tolist() == pytest.approx([0.1, 0.1, 0.2])
    assert whole.chosen == ("first", "first", "later")
    assert whole.margins is not None
    assert whole.margins.tolist() == [1.0, 2.0, 0.5]
    assert whole.forward_passes.tolist() == [6, 3, 6]
    assert whole.backward_passes.tolist() == [8, 4, 8]
