"""Strength against foolbox on a deterministic model, and honesty where foolbox's claims are wrong."""

import math

import foolbox as fb
import numpy as np
import pytest
import torch
from torch import nn

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.sde.draws import Draws, Stream


class Plain(nn.Module):
    """The ODE classifier as foolbox wants it: one fixed draw, which an ODE ignores."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model.logits(images, torch.arange(len(images)), Draws(0, Stream.AUDIT))[0]


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), ("linf", 0.06), ("l2", 0.6)])
def test_pgd_is_at_least_as_strong_as_foolbox_from_the_same_start(ode, digits, norm, eps):
    """Equal steps, step size and start: keeping the best point of the path can only be stronger.

    Images that leave early lose nothing but margin.
    """
    data = digits.subset(80)
    same = {"norm": norm, "eps": eps, "steps": 10, "random_start": False}
    ours, early = (rb.attack(ode, data, "pgd", **same, settle=settle) for settle in (False, True))
    kind = fb.attacks.LinfPGD if norm == "linf" else fb.attacks.L2PGD
    attack = kind(rel_stepsize=2.5 / 10, steps=10, random_start=False)
    _, images, _ = attack(
        fb.PyTorchModel(Plain(ode).eval(), (0, 1)), to_float(data.images), data.labels, epsilons=eps
    )
    theirs = rb.score(ode, data, images)
    assert ours.records["correct"].sum() <= theirs.records["correct"].sum()
    assert early.records["correct"].sum() == ours.records["correct"].sum()
    assert ours.records["margin"].mean() <= theirs.records["margin"].mean() + 1e-3


def test_cw_is_at_least_as_strong_as_foolbox(ode, digits):
    """Equal steps and rounds on 24 images: our median distance is not larger by more than 1 %."""
    data = digits.subset(24)
    clean = to_float(data.images)
    ours = make_attack("cw", steps=60, binary_search_steps=4)(ode, clean, data.labels, data.ids).images
    attack = fb.attacks.L2CarliniWagnerAttack(
        binary_search_steps=4, steps=60, stepsize=1e-2, initial_const=0.1, abort_early=False
    )
    _, theirs, _ = attack(fb.PyTorchModel(Plain(ode).eval(), (0, 1)), clean, data.labels, epsilons=None)

    def median(images):
        correct = torch.tensor(rb.score(ode, data, images.clamp(0, 1)).records["correct"].to_numpy())
        return float(torch.where(correct, math.inf, NORMS["l2"].size(images - clean)).median())

    assert median(ours) <= 1.01 * median(theirs)


@pytest.mark.parametrize(
    ("attack", "parameters"),
    [
        ("pgd", {"norm": "linf", "steps": 3, "restarts": 4}),
        ("pgd", {"norm": "l2", "steps": 3, "restarts": 4}),
        ("cw", {"steps": 5, "binary_search_steps": 2, "restarts": 2}),
    ],
)
def test_at_eps_1e_6_robust_accuracy_is_clean_accuracy(sde, digits, attack, parameters):
    """No lucky draw or restart counts: a budget of nothing takes nothing (docs/comparison.md)."""
    result = rb.attack(sde, digits.subset(20), attack, eps=1e-6, score_draws=16, **parameters)
    clean, attacked = result.summary.iloc[0], result.summary.iloc[2]
    assert attacked["accuracy"] == clean["accuracy"]  # scored on the same draws
    assert clean["single_draw_low"] <= attacked["single_draw_accuracy"] <= clean["single_draw_high"]
    assert attacked["single_draw_accuracy"] == pytest.approx(clean["single_draw_accuracy"], abs=0.01)


def test_minimal_distances_of_a_random_model_are_real(sde, digits):
    """C&W on the SDE: the median distance is far from 0, and what it calls fooled is fooled on fresh draws.

    The peer keeps the closest point ever misclassified: median distance 0.0000 (docs/comparison.md).
    """
    data = digits.subset(16)
    result = rb.attack(sde, data, "cw", steps=40, binary_search_steps=3, score_draws=64)
    moved = result.records["l2"].to_numpy() > 0.05
    assert moved.mean() > 0.9
    assert np.median(result.records["l2"]) > 0.2
    wrong = 1 - result.records.loc[moved, "correct"].mean()
    assert wilson(wrong, int(moved.sum())).high > 0.9
    assert wrong > 0.8
