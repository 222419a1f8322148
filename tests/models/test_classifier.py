"""The built-in classifier and its use of keyed draws."""

import pytest
import torch
from builders import make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_sde.errors import BenchError
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.probabilities import log_mean, log_probabilities, split_label
from robustbench_sde.sde.draws import Draws, Stream

KINDS = ("none", "additive", "multiplicative", "dropout")
IMAGES = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0))
DRAWS = Draws(0, Stream.SCORE, range(4))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_draws_by_images_by_classes(kind):
    """The shape is (draws, images, classes), also for an ODE, whose draws are all equal."""
    logits = make_model(kind).logits(IMAGES, range(5), DRAWS)
    assert logits.shape == (4, 5, 4)
    assert bool((logits[0] == logits[1]).all()) == (kind == "none")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_row_depends_on_its_image_id_and_draw_only(kind, blocks):
    """Batch, order and chunks of draws change logits by less than 1e-5."""
    model = make_model(kind, blocks=blocks)
    whole = model.logits(IMAGES, range(5), DRAWS)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = model.logits(IMAGES[order], order, DRAWS)
    alone = model.logits(IMAGES[2:3], [2], Draws(0, Stream.SCORE, range(3, 4)))
    assert torch.allclose(shuffled, whole[:, order], atol=1e-5)
    assert torch.allclose(alone[0, 0], whole[3, 2], atol=1e-5)


@given(rows=st.integers(1, 30))
@settings(max_examples=10, deadline=None)
def test_probabilities_do_not_depend_on_the_rows_of_a_pass(rows):
    """Any limit on folded rows gives the same probabilities."""
    model = make_model()
    assert torch.allclose(
        log_probabilities(model, IMAGES, range(5), DRAWS, rows=rows),
        log_probabilities(model, IMAGES, range(5), DRAWS, rows=1000),
        atol=1e-5,
    )


def test_log_mean_is_the_log_of_the_mean_probability():
    """log_mean equals log(mean(p)), and split_label finds label, largest other and runner-up."""
    log_probs = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    assert torch.allclose(log_mean(log_probs).exp(), log_probs.exp().mean(0), atol=1e-6)
    at_label, largest, runner_up = split_label(torch.tensor([[1.0, 5.0, 3.0]]), torch.tensor([1]))
    assert (at_label.item(), largest.item(), runner_up.item()) == (5.0, 3.0, 2)


def test_noise_can_be_scaled_and_switched_off_at_test_time():
    """sigma replaces the trained scale; without noise the model is its own drift; an ODE stays one."""
    model = make_model("additive", sigma=0.8)
    louder = model.with_noise(sigma=2.0)
    assert (louder.sigma, model.sigma) == (2.0, 0.8)
    silent = model.with_noise(enabled=False)
    assert (silent.stochastic, silent.noise) == (False, "none")
    same = model.with_noise(sigma=0)
    assert torch.equal(silent.logits(IMAGES, range(5), DRAWS), same.logits(IMAGES, range(5), DRAWS))
    assert not make_model("none", sigma=0).with_noise(sigma=1.0).stochastic


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_a_wrong_sigma_is_refused(sigma):
    """Negative and non-finite scales are input errors."""
    with pytest.raises(BenchError, match="sigma"):
        make_model().with_noise(sigma=sigma)


def test_initial_weights_are_keyed():
    """One seed gives one set of weights, another seed others, and no global generator is used."""
    spec = make_model().spec
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first, second = (Classifier.initialised(spec, seed).state_dict() for seed in (0, 0))
    other = Classifier.initialised(spec, 1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem.conv1.weight"], other["stem.conv1.weight"])


def test_gradient_is_that_of_the_discrete_solve():
    """Backpropagation through the solver agrees with central differences in double precision."""
    model = make_model("multiplicative").double()
    x = IMAGES[:1].double().requires_grad_()
    draws = Draws(0, Stream.ATTACK, range(2))

    def value(images):
        return model.logits(images, [7], draws)[:, 0, 1].sum()

    (gradient,) = torch.autograd.grad(value(x), x)
    direction = torch.rand(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 0.5
    step = 1e-6
    with torch.no_grad():
        numeric = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-5)
