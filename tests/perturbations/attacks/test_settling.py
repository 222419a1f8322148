"""Images that are fooled for good leave pgd: same decisions, fewer passes, no influence on the others."""

import math
from pathlib import Path

import pytest
import torch

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.registry import make_attack

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
STEPS, DRAWS = 10, 4


@pytest.fixture(scope="module", params=["ode", "multiplicative"])
def runs(request, digits):
    """Model, data, and what pgd makes with and without leaving; at eps .05 some images fall, some stand."""
    model, data = rb.load_checkpoint(CHECKPOINTS / f"digits-{request.param}.safetensors"), digits.subset(10)

    def run(settle, data=data):
        attack = make_attack("pgd", eps=0.05, steps=STEPS, eot_draws=DRAWS, settle=settle)
        return attack(model, to_float(data.images), data.labels, data.ids)

    return model, data, run, run(True), run(False)


def test_images_that_leave_are_wrong_on_fresh_draws_in_every_one_of_them(runs):
    """Not only by the mean: the single-draw accuracy loses nothing either."""
    model, data, _, early, full = runs
    left = early.backward_passes < full.backward_passes
    assert 0 < left.sum() < len(data)
    records = rb.score(model, data, early.images, score_draws=64).records[left.numpy()]
    assert not records["correct"].any()
    assert records["share_correct"].max() < 0.1


def test_images_that_stay_are_what_they_would_be_anyway(runs):
    """Nobody's draws depend on who has left, or on who was there at all."""
    _, data, run, early, full = runs
    stay = early.backward_passes == full.backward_passes
    assert torch.allclose(early.images[stay], full.images[stay], atol=1e-4)
    alone = run(True, data.select(data.ids[stay]))
    assert torch.allclose(alone.images, early.images[stay], atol=1e-4)
    assert torch.equal(alone.backward_passes, early.backward_passes[stay])


def test_no_image_is_right_that_would_be_wrong_without_leaving(runs):
    """At least as strong as all steps."""
    model, data, _, early, full = runs
    right = [rb.score(model, data, made.images, score_draws=64).records["correct"] for made in (early, full)]
    assert not (right[0] & ~right[1]).any()


@pytest.mark.parametrize(
    ("margin", "error", "share", "for_good"),
    [
        (-2.5, 0.0, 1.0, True),
        (-2.31, 0.0, 1.0, True),
        (-2.29, 0.0, 1.0, False),  # less than ten times as probable
        (-2.5, 0.1, 1.0, False),  # not by three standard errors
        (-9.0, 0.1, 0.97, False),  # one draw disagrees
        (math.nan, 0.0, 1.0, False),
    ],
)
def test_for_good_is_ten_to_one_by_three_standard_errors_and_in_every_draw(margin, error, share, for_good):
    """Each condition alone keeps an image in."""
    look = Look(*(torch.tensor([value]) for value in (margin, error, 0.0, share)))
    assert look.fooled_for_good(3.0).tolist() == [for_good]
