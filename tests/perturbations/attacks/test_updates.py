"""Update rules of attacks against their published formulas, and the draws that they use."""

import math
from types import SimpleNamespace

import pytest
import torch
from builders import make_data, make_model

from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.perturbations.attacks import adaptive, rescue, victim
from robustbench_sde.perturbations.attacks.apgd import _Descent
from robustbench_sde.perturbations.attacks.cw import _Adam
from robustbench_sde.perturbations.attacks.looks import Aim, Look
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.norms import NORMS, Ball


def test_adam_is_that_of_torch():
    """Ten steps with changing rates reach the points of `torch.optim.Adam` with its usual constants."""
    generator = torch.Generator().manual_seed(0)
    start = 0.4 + 0.2 * torch.rand(3, 1, 2, 2, generator=generator)
    ours, theirs = _Adam(start.clone()), start.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs])
    for step in range(10):
        gradient = torch.randn(start.shape, generator=generator)
        rate = 0.01 / (1 + step)
        optimizer.param_groups[0]["lr"] = rate
        theirs.grad = gradient
        optimizer.step()
        ours.step(gradient, rate)
        assert torch.allclose(ours.point, theirs.detach(), atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_step_of_apgd_is_the_published_one(norm):
    """Three quarters of the way to z, a projected gradient step, and a quarter of the last movement."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(4, 1, 3, 3, generator=generator)
    ball = Ball(NORMS[norm], 0.2)
    x, previous = (images + 0.01 * torch.randn(images.shape, generator=generator) for _ in range(2))
    gradient, size = torch.randn(images.shape, generator=generator), torch.tensor([0.01, 0.02, 0.03, 0.05])
    descent = _Descent(ball, None, images, None, None)
    unit = gradient.sign()
    if norm == "l2":
        unit = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    ahead = x + size.view(-1, 1, 1, 1) * unit  # well inside of the ball and of [0, 1]
    found = descent._step(x, previous, gradient, size, momentum=True)
    assert torch.allclose(found, x + 0.75 * (ahead - x) + 0.25 * (x - previous), atol=1e-6)
    assert torch.allclose(descent._step(x, previous, gradient, size, momentum=False), ahead, atol=1e-6)
    far = descent._step(x, previous, gradient, 100 * size, momentum=True)
    assert (ball.norm.size(far - images) <= 0.2 + 1e-6).all()


LOOKS = [
    # margin, error, z, fooled, crossed; log-probabilities spread over 9, so that rounding is 1e-4
    (-0.2, 0.0, 0.0, True, True),
    (-0.2, 0.1, 2.0, False, False),  # just two standard errors: not below zero
    (-0.21, 0.1, 2.0, True, True),
    (-5e-5, 0.0, 0.0, True, False),  # what another batch rounds
    (-2e-4, 0.0, 0.0, True, True),
    (0.0, 0.0, 0.0, False, False),
    (0.1, 0.0, 0.0, False, False),
    (float("nan"), 0.0, 0.0, False, False),
]


@pytest.mark.parametrize(("margin", "error", "z", "fooled", "crossed"), LOOKS)
def test_an_image_is_fooled_by_standard_errors_and_crossed_beyond_rounding(margin, error, z, fooled, crossed):
    """The margin counts with `z` standard errors; a boundary is crossed by more than another batch rounds."""
    log_probs = torch.tensor([[-0.5, -1.0, -9.0]])
    look = Look(torch.tensor([margin]), torch.tensor([error]), log_probs, torch.ones(1))
    assert look.fooled(z).tolist() == [fooled]
    assert look.crossed(z).tolist() == [crossed]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_look_shows_the_margin_of_the_mean_and_the_share_of_the_draws(sign):
    """Two draws by hand give the log odds of the mean, its error by the delta method, and the share."""
    probs = torch.tensor([[[0.6, 0.3, 0.1]], [[0.2, 0.5, 0.3]]])  # mean .4, .4, .2
    aim = Aim(torch.tensor([2]), torch.tensor([sign]))
    margin, error = aim.margin_and_error(probs.log())
    assert margin.item() == pytest.approx(sign * math.log(0.2 / 0.4), abs=1e-6)
    differences = torch.tensor([0.1 / 0.2 - 0.6 / 0.4, 0.3 / 0.2 - 0.2 / 0.4])
    others = torch.tensor([0.1 / 0.2 - 0.3 / 0.4, 0.3 / 0.2 - 0.5 / 0.4])  # the other runner-up, as likely
    assert any(
        error.item() == pytest.approx(each.std().item() / math.sqrt(2), rel=1e-5)
        for each in (differences, others)
    )
    for classes, share in (([0], 0.5), ([1], 0.5), ([2], 0.0)):
        found = Aim(torch.tensor(classes), torch.tensor([sign])).share_fooled(probs.log())
        assert found.item() == pytest.approx(1 - share if sign > 0 else share)


@pytest.mark.parametrize("confirm", [1, 3, 32])
def test_each_confirmation_of_pgd_has_draws_of_its_own(confirm):
    """The fresh draws of a step are those of no gradient and of no other step's confirmation."""
    pgd = make_attack("pgd", eps=0.1, steps=7, eot_draws=3, confirm=confirm)
    steps_of = -(-confirm // 3)
    asked = []

    def confirmed(x, look, step, judge, draws):
        asked.append((step, draws))
        return torch.zeros(len(x), dtype=torch.bool)

    fake = SimpleNamespace(confirmed=confirmed, steps_of=lambda draws: -(-draws // 3), stochastic=True)
    look = SimpleNamespace(margin=torch.zeros(2))
    for step in range(pgd.steps):
        pgd._gone(fake, torch.zeros(2, 1, 2, 2), look, step)
    assert {draws for _, draws in asked} == {confirm}
    used = [place for first, _ in asked for place in range(first, first + steps_of)]
    assert len(set(used)) == len(used)
    assert min(used) > pgd.steps  # gradients have 0 to steps - 1, the last look has steps


def test_draws_of_the_pilot_are_those_of_no_restart_and_fit_their_counter(monkeypatch):
    """Index by index: restarts, the pilot and the rescue lie apart, and all below 2^63."""
    model, data = make_model("multiplicative"), make_data(3)
    seen = set()
    whole = Classifier.logits

    def logits(self, images, ids, draws):
        seen.add((draws.indices.start, draws.indices.stop))
        return whole(self, images, ids, draws)

    monkeypatch.setattr(Classifier, "logits", logits)
    attack = make_attack("pgd", eps=0.1, steps=2, restarts=2, adaptive_draws=True, select_draws=4)
    attack(model, to_float(data.images), data.labels, data.ids)
    assert max(stop for _, stop in seen) <= 2**63
    restarts = {start // victim._DRAWS_PER_RESTART for start, _ in seen}
    assert restarts == {0, 1, adaptive._RESTART}
    assert 2**16 < rescue._RESTART < adaptive._RESTART
