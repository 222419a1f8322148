"""Parameters of attacks in any combination: images end in their ball, passes within their budget."""

from typing import Any

import pytest
import torch
from builders import make_data, make_model
from hypothesis import given
from hypothesis import strategies as st

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.registry import ATTACKS, make_attack

IMAGES = make_data(5)
SIZES = {"linf": lambda moved: moved.abs().amax(1), "l2": lambda moved: moved.norm(dim=1)}


class Unknown(torch.nn.Module):
    """A module whose noise nobody can switch off."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.nn.Parameter(torch.randn(144, 4, generator=generator) / 12)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images with noise on them."""
        logits: torch.Tensor = (images + 0.1 * torch.randn_like(images)).flatten(1) @ self.weights
        return logits


def network(noise: str) -> RandomClassifier:
    """A tiny network with a kind of noise, or somebody's module."""
    if noise != "unknown":
        return make_model(noise)
    with pytest.warns(BenchWarning, match="noise of its own"):
        return rb.as_classifier(Unknown().eval(), IMAGES)


@st.composite
def parameters(draw: st.DrawFn) -> dict[str, Any]:
    """Parameters that all attacks have, in all sizes."""
    return {
        "norm": draw(st.sampled_from(["linf", "l2"])),
        "eps": draw(st.sampled_from([0.0, 1e-6, 0.05, 0.3, 1.0])),
        "steps": draw(st.sampled_from([1, 2, 9, 12])),
        "eot_draws": draw(st.sampled_from([1, 2, 3, 8, "auto"])),
        "restarts": draw(st.integers(1, 2)),
        "select_draws": draw(st.sampled_from([1, 3, 8, 9])),
        "passes": draw(st.sampled_from([None, 16, 40, 64, 150])),
    }


@given(
    name=st.sampled_from(["pgd", "auto", "apgd-ce", "apgd-targeted", "fmn", "cw", "square", "noise"]),
    noise=st.sampled_from(["none", "additive", "dropout", "unknown"]),
    chosen=parameters(),
    rows=st.sampled_from([1, 7, 64]),
)
def test_an_attack_ends_within_its_ball_and_budget(name, noise, chosen, rows):
    """Steps, draws, restarts, budgets and sizes of passes go together, or one line refuses them."""
    chosen = {key: value for key, value in chosen.items() if key in ATTACKS[name].parameters()}
    images = to_float(IMAGES.images)
    try:
        made = make_attack(name, **chosen)(network(noise), images, IMAGES.labels, IMAGES.ids, rows=rows)
    except BenchError as error:
        if "has no norm" in str(error) or "below one step" in str(error):
            return
        raise
    assert made.images.min() >= 0
    assert made.images.max() <= 1
    size = SIZES[chosen["norm"]]((made.images - images).flatten(1))
    assert (size <= chosen["eps"] * (1 + 1e-5) + 1e-6).all()
    if chosen.get("passes") is not None and ATTACKS[name].gradients:
        assert made.backward_passes.max() <= chosen["passes"]


@pytest.mark.parametrize(("passes", "refused"), [(7, True), (8, False), (15, False), (16, False)])
def test_auto_needs_passes_for_one_step_and_not_for_its_opening(passes, refused):
    """A budget of eight passes is a step of eight draws; an opening takes no part of it that a step needs."""
    attack = make_attack("auto", eps=0.05, eot_draws=8, passes=passes)
    images, model = to_float(IMAGES.images), make_model("additive")
    if refused:
        with pytest.raises(
            BenchError, match="a budget of 7 gradient passes is below one step, which takes 8"
        ):
            attack(model, images, IMAGES.labels, IMAGES.ids)
        return
    assert attack(model, images, IMAGES.labels, IMAGES.ids).backward_passes.max() <= passes


@pytest.mark.parametrize("eot_draws", [2, "auto"])
def test_auto_runs_on_a_budget_for_one_of_its_attacks(sde, digits, eot_draws):
    """Few passes leave one member, whose points are judged beside those of the opening."""
    data = digits.subset(4)
    attack = make_attack(
        "auto", eps=0.02, steps=20, eot_draws=eot_draws, depth=1, queries_per_step=1, passes=70
    )
    made = attack(sde, to_float(data.images), data.labels, data.ids)
    assert set(made.chosen) <= {"pgd without noise", "pgd"}
    assert made.backward_passes.max() > 8, "every image was settled by the opening"
    assert made.backward_passes.max() <= 70
