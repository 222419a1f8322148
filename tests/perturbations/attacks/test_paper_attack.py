"""The paper's own attack, and attacks across solvers."""

import pytest
import torch
import torch.nn.functional as F
from builders import make_data, make_model

from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.sde.draws import Draws, Stream

DATA = make_data(6)
IMAGES = to_float(DATA.images)


def attacked(name, model, **parameters):
    return make_attack(name, **parameters)(model, IMAGES, DATA.labels, DATA.ids)


@pytest.mark.parametrize("kind", ["none", "additive"])
def test_it_is_adam_on_one_draw_with_a_projection(kind):
    """Equal to a plain loop: lr 2 eps / steps, one even draw a step, l2 ball, [0, 1]; the last point."""
    model, eps, steps = make_model(kind), 0.7, 5
    x = IMAGES.clone().requires_grad_()
    optimiser = torch.optim.Adam([x], lr=2 * eps / steps)
    for step in range(steps):
        optimiser.zero_grad()
        logits = model.logits(x, DATA.ids, Draws(0, Stream.ATTACK, range(2 * step, 2 * step + 1)))[0]
        (-F.cross_entropy(logits, DATA.labels, reduction="sum")).backward()
        optimiser.step()
        with torch.no_grad():
            delta = x - IMAGES
            size = delta.flatten(1).norm(dim=1)
            delta *= (eps / size).clamp(max=1)[:, None, None, None]
            x.copy_((IMAGES + delta).clamp(0, 1))
    found = attacked("liu2020", model, eps=eps, steps=steps)
    assert torch.allclose(found.images, x.detach(), atol=1e-5)
    assert found.forward_passes.tolist() == found.backward_passes.tolist() == [steps] * 6


def test_its_defaults_are_those_of_the_released_code():
    """L2, 20 steps, one draw, one start."""
    attack = make_attack("liu2020", eps=0.5)
    assert (attack.norm, attack.steps, attack.eot_draws, attack.restarts) == ("l2", 20, 1, 1)
    with pytest.raises(BenchError, match="takes l2"):
        make_attack("liu2020", norm="linf", eps=0.1)


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_the_solver_of_the_attack_alone_decides_the_images(kind):
    """Whatever solver the model that is scored has; another one makes others."""
    model, options = make_model(kind), {"norm": "linf", "eps": 0.1, "steps": 5, "eot_draws": 2}
    moved = model.with_solver(solver="heun", steps=6)
    here, there = (
        attacked("other-solver", m, on_solver="heun", on_steps=6, **options) for m in (model, moved)
    )
    assert torch.equal(here.images, there.images)
    assert not torch.equal(here.images, attacked("other-solver", model, **options).images)


def test_a_solver_that_does_not_fit_is_one_sentence():
    """An unknown one is found when the attack is made, one that does not take the noise when it runs."""
    with pytest.raises(BenchError, match="did you mean 'heun'"):
        make_attack("other-solver", eps=0.1, on_solver="huen")
    with pytest.raises(BenchError, match="rk4 solves ODEs only"):
        attacked("other-solver", make_model(), eps=0.1, on_solver="rk4")
