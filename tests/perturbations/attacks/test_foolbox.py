"""Attacks of foolbox by name: norms as their instances say, and steps as foolbox has them."""

import math

import pytest
import torch
from builders import make_data, make_model
from torch import nn

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.attacks.registry import attack_kind, make_attack, plan_attacks
from robustbench_sde.runs.words import perturbation_text

NOISE = [
    "L2AdditiveGaussianNoiseAttack",
    "L2AdditiveUniformNoiseAttack",
    "L2ClippingAwareAdditiveGaussianNoiseAttack",
    "L2ClippingAwareAdditiveUniformNoiseAttack",
    "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
    "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
    "L2RepeatedAdditiveGaussianNoiseAttack",
    "L2RepeatedAdditiveUniformNoiseAttack",
    "LinfAdditiveUniformNoiseAttack",
    "LinfRepeatedAdditiveUniformNoiseAttack",
]
#: foolbox's own defaults, of foolbox 3.3.4
MINIMAL = {
    "BoundaryAttack": 25_000,
    "DDNAttack": 100,
    "HopSkipJumpAttack": 64,
    "L2CarliniWagnerAttack": 10_000,
    "L2DeepFoolAttack": 50,
    "L2FMNAttack": 100,
    "LInfFMNAttack": 100,
    "LinfDeepFoolAttack": 50,
    "NewtonFoolAttack": 100,
    "SaltAndPepperNoiseAttack": 1000,
}


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
@pytest.mark.parametrize("name", NOISE)
def test_noise_attacks_run_in_the_norm_of_their_instance(name, kind):
    """The distance is a property of the class; images change, stay in the ball, and take no gradient."""
    norm = "l2" if name.startswith("L2") else "linf"
    attack = make_attack(f"foolbox:{name}", eps=0.5)
    assert attack.norm == norm
    data, model = make_data(3), make_model(kind)
    made = attack(model, to_float(data.images), data.labels, data.ids)
    moved = (made.images - to_float(data.images)).flatten(1)
    size = moved.norm(dim=1) if norm == "l2" else moved.abs().amax(1)
    assert (size <= 0.5 + 1e-6).all()
    assert (size > 0).any() or "Repeated" in name  # which stops where the image is misclassified already
    assert not made.backward_passes.any()
    assert made.counted.isnan().all()


class Constant(nn.Module):
    """A classifier that says one class for every image."""

    def __init__(self, label):
        super().__init__()
        self.label = label

    def forward(self, x):
        return 5 * torch.eye(10)[self.label].expand(len(x), 10) + 0 * x.mean((1, 2, 3))[:, None]


@pytest.mark.filterwarnings("ignore")
def test_hopskipjump_of_foolbox_looks_for_the_smallest_l2_change_and_an_image_without_a_start_stands():
    """The class says L1 and an instance L2; where no noise fools the network, the image comes back."""
    attack = make_attack("foolbox:HopSkipJumpAttack", steps=1)
    assert attack.norm == "l2"
    assert not attack.gradients
    data = make_data(2)
    found = rb.attack(make_model("none"), data, "foolbox:HopSkipJumpAttack", eps=None, steps=1)
    assert found.summary.iloc[-1]["status"] == "ok"
    one = rb.load_dataset("digits", images=1)
    stands = rb.attack(Constant(int(one.labels[0])), one, "foolbox:HopSkipJumpAttack", eps=None, steps=1)
    assert torch.equal(stands.images, to_float(one.images))
    assert stands.summary.iloc[-1]["accuracy"] == 1


def test_minimal_norm_attacks_take_foolbox_own_steps_unless_steps_are_given():
    """Without `steps` plans and single attacks have the defaults of foolbox; a call may say another."""
    for name, steps in MINIMAL.items():
        assert attack_kind(f"foolbox:{name}").minimal, name
        assert make_attack(f"foolbox:{name}").steps == steps, name
    names = ["foolbox:DDNAttack", "fmn", "foolbox:LinfPGD"]
    assert [a.steps for a in plan_attacks(names[:2], "l2", [None], {}, {})] == [100, 100]
    given = plan_attacks(names, None, [0.1], {"steps": 7}, {})
    assert [attack.steps for attack in given] == [7, 100, 7]
    assert plan_attacks(names[2:], None, [0.1], {}, {})[0].steps == 20


def test_rows_show_the_steps_of_an_attack():
    """They are in a column, and in words for foolbox's; an attack without steps has none."""
    data, model = make_data(2), make_model("none")
    attacks = {"foolbox:L2FMNAttack": {"steps": 6}, "foolbox:L2AdditiveUniformNoiseAttack": {}, "pgd": {}}
    summary = rb.attack(model, data, attacks, norm="l2", eps=0.5).summary
    steps = dict(zip(summary["perturbation"], summary["attack_steps"], strict=True))
    assert (steps["foolbox:L2FMNAttack"], steps["pgd"]) == (6, 20)
    assert all(math.isnan(steps[name]) for name in ("clean", "foolbox:L2AdditiveUniformNoiseAttack"))
    texts = [perturbation_text(row) for row in summary.to_dict("records")]
    assert "foolbox:L2FMNAttack l2 0.5, 6 steps" in texts
    assert "foolbox:L2AdditiveUniformNoiseAttack l2 0.5" in texts
    assert "pgd l2 0.5" in texts


@pytest.mark.parametrize("name", ["LinearSearchContrastReductionAttack", "L1FMNAttack", "EADAttack"])
def test_attacks_without_one_of_our_norms_are_refused(name):
    """Whether the distance is the caller's choice or another norm."""
    with pytest.raises(BenchError, match="norms l2 and linf"):
        attack_kind(f"foolbox:{name}")
