"""Randomised smoothing as part of a classifier: keyed, unclipped, and seen by every attack."""

import numpy as np
import pytest
import torch
from builders import make_data, make_model
from models.modules import Apply, KeyedNet, Net, bayesian, noisy
from torch import nn

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.smoothed import Smoothed, name_inside, smoothed_name, smoothing_in_name
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import LiveSource
from robustbench_sde.sde import philox
from robustbench_sde.sde.draws import SMOOTHING_SITE, Draws, Stream, path_key

DRAWS = Draws(3, Stream.SCORE, range(2, 6))


class Echo:
    """A deterministic classifier whose logits are the pixels themselves."""

    name, noise, sigma, stochastic, precision = "echo", "none", 0.0, False, "fp32"
    image_shape, classes, device = (1, 12, 12), 144, torch.device("cpu")

    def logits(self, images, image_ids, draws):
        """Return the pixels (draws, images, values)."""
        return images.flatten(1).expand(len(draws), -1, -1)


def test_the_noise_is_the_one_that_is_written_down():
    """Each pixel gets sigma times the normals at its key and site, and nothing is clipped."""
    images, ids = to_float(make_data(3).images), [5, 9, 2]
    logits = Smoothed(Echo(), 0.5).logits(images, ids, DRAWS)
    rows = [(draw & ~1, image) for draw in DRAWS.indices for image in ids]
    raw = philox.words(path_key(DRAWS), rows, 18, site=SMOOTHING_SITE)
    normals = philox.to_normals(philox.signed(raw)).view(4, 3, 144)
    normals[1::2] *= -1  # odd draws are mirrored
    torch.testing.assert_close(logits, images.flatten(1) + 0.5 * normals)
    assert logits.min() < 0
    assert logits.max() > 1


@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_a_draw_depends_on_image_and_index_alone(kind):
    """One image and one draw give the row that they have in a batch, for an ODE and an SDE."""
    model, data = Smoothed(make_model(kind), 0.25), make_data(5)
    images = to_float(data.images)
    batch = model.logits(images, data.ids, DRAWS)
    alone = model.logits(images[2:3], data.ids[2:3], Draws(3, Stream.SCORE, range(4, 5)))
    torch.testing.assert_close(batch[2, 2], alone[0, 0], rtol=1e-4, atol=1e-5)
    assert (batch[0] - batch[1]).abs().max() > 1e-4


def test_the_draws_inside_stay_what_they_are():
    """Smoothing so small that it changes nothing gives the logits of the classifier inside."""
    model, data = make_model("multiplicative"), make_data(4)
    images = to_float(data.images)
    plain = model.logits(images, data.ids, DRAWS)
    torch.testing.assert_close(Smoothed(model, 1e-9).logits(images, data.ids, DRAWS), plain)


def test_a_deterministic_module_of_anybody_becomes_keyed():
    """Tables say `keyed` for the noise of a smoothed nn.Module, and an attack leaves its control equal."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 4)).eval()
    result = rb.attack(module, make_data(4), "pgd", eps=0.05, steps=2, smoothing=[0.1, 0.3], score_draws=4)
    assert set(result.summary["noise"]) == {"keyed"}
    names = list(result.summary["checkpoint"].unique())
    assert names == ["Sequential@0.1", "Sequential@0.3"]
    clean, control = (result.summary[result.summary["perturbation"] == name] for name in ("clean", "control"))
    np.testing.assert_array_equal(clean["single_draw_accuracy"], control["single_draw_accuracy"])


class Counted:
    """A classifier whose passes are counted, and which can be as if it took no images by draw."""

    def __init__(self, model, by_draw=True):
        self._model, self._by_draw = model, by_draw
        self.passes = 0

    def __getattr__(self, name):
        return (name != "images_by_draw" or self._by_draw) and getattr(self._model, name)

    def logits(self, images, image_ids, draws):
        """Count and pass on."""
        self.passes += 1
        return self._model.logits(images, image_ids, draws)


RANDOM = {
    "an SDE": lambda data: make_model("multiplicative"),
    "an SDE whose noise is shared": lambda data: make_model(
        noise=NoiseSpec(kind="multiplicative", sigma=0.8, shape="channel"), blocks=2
    ),
    "flows side by side": lambda data: make_model(
        "additive", architecture="liu2020", blocks=2, stem_strides=(1, 1, 2)
    ),
    "a keyed module": lambda data: rb.as_classifier(KeyedNet().eval(), data),
    "a module with noise of its own": lambda data: rb.as_classifier(Net(before=Apply(noisy)).eval(), data),
    "a module with random weights": lambda data: rb.as_classifier(bayesian(), data),
}


@pytest.mark.parametrize("make", RANDOM.values(), ids=RANDOM)
@pytest.mark.filterwarnings("ignore::robustbench_sde.errors.BenchWarning")
def test_all_draws_in_one_pass_are_those_of_one_at_a_time(make):
    """A random classifier inside gets all noisy images at once: one pass, and the logits of many."""
    model = make(make_data(4))
    data = make_data(4, shape=model.image_shape)
    images = to_float(data.images)
    slow, fast = Counted(model, by_draw=False), Counted(model)
    one_by_one = Smoothed(slow, 0.25).logits(images, data.ids, DRAWS)
    assert slow.passes == len(DRAWS)
    together = Smoothed(fast, 0.25).logits(images, data.ids, DRAWS)
    assert fast.passes == 1
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_gradients_of_one_pass_are_those_of_many():
    """The gradient through all draws at once is that of one draw after the other."""
    model, data = make_model("multiplicative"), make_data(3)
    images = to_float(data.images).requires_grad_()
    gradients = [
        torch.autograd.grad(Smoothed(inside, 0.2).logits(images, data.ids, DRAWS).logsumexp(2).sum(), images)
        for inside in (model, Counted(model, by_draw=False))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_names_tell_the_smoothing():
    """A smoothed name is read back; a name without one, or with @ in it for another reason, stays."""
    name = smoothed_name("a@home", 0.125)
    assert (name, name_inside(name), smoothing_in_name(name)) == ("a@home@0.125", "a@home", 0.125)
    assert (name_inside("a@home"), smoothing_in_name("a@home")) == ("a@home", None)


def test_gradients_pass_through_the_noise():
    """The gradient of a smoothed classifier is the mean over the noisy images' gradients."""
    model, data = make_model("none"), make_data(2)
    images = to_float(data.images).requires_grad_()
    (gradient,) = torch.autograd.grad(Smoothed(model, 0.2).logits(images, data.ids, DRAWS).sum(), images)
    assert gradient.abs().max() > 0
    assert gradient.isfinite().all()


def test_only_smoothed_cells_have_smoothing_in_their_key():
    """The key of a cell changes with smoothing, and is the old one without."""
    model, data = make_model("none"), make_data(3)
    keys = {
        Cell(source, Clean(), ScoreSettings()).key(data)
        for plain in [LiveSource.around(model)]
        for source in (plain, plain.smoothed(0.1), plain.smoothed(0.2))
    }
    assert len(keys) == 3
    again = LiveSource.around(Smoothed(model, 0.1))
    assert Cell(again, Clean(), ScoreSettings()).key(data) in keys


@pytest.mark.parametrize("wrong", [0.0, -0.1, float("nan"), 11.0])
def test_impossible_smoothing_is_refused(wrong):
    """A deviation that is not above 0 and at most 10 is one sentence."""
    with pytest.raises(BenchError, match="`smoothing` is"):
        rb.attack(make_model("none"), make_data(2), eps=0.1, smoothing=wrong)


def test_transfer_takes_its_gradients_inside():
    """Switching the noise off leads to the classifier inside; that works unless its noise is opaque."""
    assert not Smoothed(make_model("multiplicative"), 0.1).without_noise().stochastic
    ode = make_model("none")
    assert Smoothed(ode, 0.1).without_noise() is ode
