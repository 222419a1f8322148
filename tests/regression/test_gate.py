"""The gate on a shipped checkpoint and a real attack; `benchmarks/gate.py` does it 40 times."""

import copy

import pytest
import torch

from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.regression.compare import compare
from robustbench_sde.regression.measured import Side, measured
from robustbench_sde.regression.policy import Policy
from robustbench_sde.regression.verdict import Verdict
from robustbench_sde.sde.draws import KeyedRandom, Stream

ATTACK = make_attack("pgd", norm="linf", eps=0.03, steps=2, eot_draws=1, select_draws=1)


def damaged(model, scale):
    """Keyed noise on all weights, relative to the spread of each."""
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in broken.named_parameters():
            if weight.numel() > 1:
                noise = KeyedRandom(0, Stream.AUDIT, f"damage/{name}").normals([0], weight.shape)[0]
                weight.add_(noise, alpha=scale * float(weight.std()))
    return broken


@pytest.fixture(scope="module")
def run(request, digits):
    """Measure a checkpoint, damaged by so much, clean and under the attack on all 360 images."""

    def of(name, seed, damage=0.0):
        model = load_checkpoint(request.config.rootpath / "checkpoints" / f"{name}.safetensors")
        settings = ScoreSettings(draws=4, seed=seed)
        results = [
            (made, evaluate(damaged(model, damage), digits, made, settings)) for made in (Clean(), ATTACK)
        ]
        return Side(name, tuple(measured(one.row, one.records, repr(made)) for made, one in results))

    return of


@pytest.mark.parametrize("name", ["digits-ode", "digits-additive"])
def test_damage_is_a_regression_its_repair_is_not_and_a_seed_is_neither(run, name):
    """Three runs, three comparisons."""
    first, second, broken = run(name, 0), run(name, 1), run(name, 2, damage=0.2)
    lost = first.cells[1].correct.mean() - broken.cells[1].correct.mean()
    assert lost > 0.05, "the damage is to cost more than 5 points"
    assert compare(first, second, Policy()).verdict is not Verdict.REGRESSION
    assert compare(first, broken, Policy()).verdict is Verdict.REGRESSION
    assert compare(broken, first, Policy()).verdict is Verdict.IMPROVED
    tests = {change.measure for cell in compare(first, broken, Policy()).cells for change in cell.changes}
    assert tests == {"accuracy"} | ({"single_draw_accuracy"} if name != "digits-ode" else set())
