"""`--eot-draws auto`: as many draws as a gradient needs, and never a weaker attack for the same money."""

import math
from pathlib import Path

import pytest
import torch
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.attacks.adaptive import (
    AGREEMENT,
    FEWEST,
    MOST,
    _enough,
    draws_needed,
    pilot_passes,
)
from robustbench_sde.perturbations.attacks.looks import Aim
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Batch

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"


def run(attack, model, data, **options):
    return attack(model, to_float(data.images), data.labels, data.ids, **options)


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_two_gradients_of_the_chosen_draws_agree_as_promised(noise):
    """Gradients m + noise in 400 dimensions: means over the number found have the cosine asked for."""
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(1, 400, generator=generator)
    signal /= signal.norm()

    def gradients(draws):
        return signal + noise * torch.randn(draws, 200, 400, generator=generator)

    draws = int(_enough(gradients(8)).median())
    first, second = (gradients(draws).mean(0) for _ in range(2))
    cosine = float(torch.cosine_similarity(first, second).mean())
    assert cosine > AGREEMENT - 0.03 or draws == MOST
    fewer = max(1, draws // 4)
    if draws > FEWEST:
        first, second = (gradients(fewer).mean(0) for _ in range(2))
        assert torch.cosine_similarity(first, second).mean() < AGREEMENT


@pytest.mark.parametrize(
    ("ratio", "draws"),
    [(0.0, 2), (0.2, 2), (0.23, 4), (0.44, 4), (0.45, 8), (3.5, 32), (3.6, 64), (99.0, 64)],
)
def test_draws_are_the_power_of_two_from_nine_times_the_ratio_of_noise_to_signal_on(ratio, draws):
    """|m|^2 / (|m|^2 + V / n) is .9 for n = 9 V / |m|^2; never fewer than 2 draws, nor more than 64."""
    # four pairs of +-d in turn have the mean 0 and the variance d^2 4 / 3, which is half of that of a draw
    away = math.sqrt(ratio / 2 * 3 / 4)
    signal = math.sqrt(1 + ratio / 8)  # whose estimate has the variance of a pair, over 4, taken off
    gradients = torch.zeros(8, 1, 2)
    gradients[..., 0] = signal
    gradients[:, 0, 1] = torch.tensor([away, away, -away, -away] * 2)
    assert _enough(gradients).tolist() == [draws]


def test_draws_that_cancel_in_pairs_are_no_noise():
    """Gradients m + d and m - d in turn, however large d, take the fewest draws: a pair has the mean m."""
    gradients = torch.ones(8, 1, 2)
    gradients[::2, 0, 1] += 100
    gradients[1::2, 0, 1] -= 100
    assert _enough(gradients).tolist() == [FEWEST]


def test_a_budget_leaves_a_quarter_of_the_steps():
    """Passes for 48 gradients leave one draw to an attack of 100 steps, however loud the noise."""
    data = make_data(2)
    attack = make_attack("pgd", eps=0.1, steps=100, eot_draws="auto", passes=64, settle=False)
    made = run(attack, make_model(sigma=3.0), data)
    assert made.eot_draws.tolist() == [1, 1]
    assert made.backward_passes.tolist() == [64, 64]


def test_louder_noise_gets_more_draws_and_records_say_how_many():
    """The column `eot_draws` has what was used; a deterministic model needs one."""
    data = make_data(6)
    used = {}
    for sigma in (0.05, 3.0):
        made = run(make_attack("pgd", eps=0.1, steps=2, eot_draws="auto"), make_model(sigma=sigma), data)
        used[sigma] = made.eot_draws.double().mean()
    assert FEWEST <= used[0.05] < used[3.0] <= MOST
    ode = run(make_attack("pgd", eps=0.1, steps=2, eot_draws="auto"), make_model("none"), data)
    assert ode.eot_draws.tolist() == [1] * 6


def test_images_do_not_depend_on_the_batch():
    """The draws that an image needs do not depend on the images beside it."""
    model, data = make_model(sigma=1.5), make_data(4)
    attack = make_attack("pgd", eps=0.1, steps=3, eot_draws="auto")
    together, alone = (run(attack, model, data, rows=rows) for rows in (1000, 1))
    assert torch.equal(together.eot_draws, alone.eot_draws)
    assert torch.allclose(together.images, alone.images, atol=1e-4)


@pytest.mark.parametrize("passes", [10, 40, 64, 200])
def test_the_budget_holds_and_pays_for_the_pilot(passes):
    """No image takes more; a budget that the pilot would eat goes to the fixed number instead."""
    attack = make_attack("pgd", eps=0.1, eot_draws="auto", passes=passes)
    made = run(attack, make_model(sigma=3.0), make_data(3))
    assert int(made.backward_passes.max()) <= passes
    if passes < 4 * pilot_passes(attack.budget):
        fixed = run(make_attack("pgd", eps=0.1, passes=passes), make_model(sigma=3.0), make_data(3))
        assert torch.equal(made.images, fixed.images)


def test_a_budget_below_one_step_is_refused_as_without_auto():
    """One sentence, not a negative number of passes."""
    with pytest.raises(BenchError, match="below one step"):
        run(make_attack("pgd", eps=0.1, eot_draws="auto", passes=7), make_model(), make_data(2))


@pytest.mark.parametrize("name", ["additive", "dropout"])
def test_it_is_not_weaker_than_the_default_at_equal_budget(name, digits):
    """24 digits, 160 passes an image for both: at most one image more is right.

    `benchmarks/adaptive_draws.py` has the table of all checkpoints.
    """
    model, data = rb.load_checkpoint(CHECKPOINTS / f"digits-{name}.safetensors"), digits.subset(24)
    right = {}
    for draws in (8, "auto"):
        made = run(make_attack("pgd", eps=0.03, steps=20, eot_draws=draws, passes=160), model, data)
        right[draws] = int(rb.score(model, data, made.images, score_draws=32).records["correct"].sum())
    assert right["auto"] <= right[8] + 1


def test_the_pilot_takes_what_it_says():
    """Passes of single draws at the image and, with a ball, after one step."""
    model, data = make_model(), make_data(2)
    batch = Batch(to_float(data.images), data.labels, data.ids)
    for attack in (make_attack("pgd", eps=0.1), make_attack("fmn")):
        _, passes = draws_needed(model, batch, Aim.untargeted(batch.labels), attack.budget, seed=0)
        assert passes == pilot_passes(attack.budget)
