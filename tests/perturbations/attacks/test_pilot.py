"""The gradients of single draws, by which `--eot-draws auto` counts: neither vanishing nor not finite."""

import pytest
import torch
from builders import make_data, make_model
from torch import nn

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.perturbations.attacks.looks import Aim
from robustbench_sde.perturbations.attacks.losses import weights_of_draws
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch

DRAWS = 8


class Scaled(Classifier):
    """Decisions of a classifier with larger logits."""

    scale = 1.0

    def logits(self, images, image_ids, draws):
        return super().logits(images, image_ids, draws) * self.scale


def victims(model, data):
    """Victims with one draw and with all draws of a gradient, on the same draws."""
    batch = Batch(to_float(data.images), data.labels, data.ids)
    return [
        Victim(model, batch, seed=0, eot_draws=draws, restart=0, rows=256, aim=Aim.untargeted(data.labels))
        for draws in (1, DRAWS)
    ], batch.images


@pytest.mark.parametrize("scale", [1.0, 10.0, 20.0, 100.0, 1e4])
def test_the_mean_over_draws_has_the_direction_of_the_gradient_of_the_mean(sde, scale):
    """The direction is the same where all, some or none of the draws of an image have saturated."""
    data = rb.load_dataset("digits", images=12)
    model = Scaled.from_weights(sde.spec, sde.state_dict()).requires_grad_(False).eval()
    model.scale = scale
    (one, every), images = victims(model, data)
    parts = one.gradients_of_draws(images, 0, DRAWS)
    _, whole = every.gradient(images, 0)
    assert parts.isfinite().all()
    assert (parts.abs().amax((0, 2, 3, 4)) > 0).all()
    cosine = torch.cosine_similarity(parts.mean(0).flatten(1).double(), whole.flatten(1).double())
    assert cosine.min() > 0.999


def test_draws_count_with_their_probability_and_saturated_ones_with_its_variance():
    """An image without saturated draws has p over the largest p; one with them p (1 - p) over the largest."""
    margins = torch.tensor([[2.0, 0.0], [20.0, 3.0], [16.0, 18.0]])[..., None]
    logits = torch.cat((margins, torch.zeros_like(margins)), 2).double()
    weights = weights_of_draws(logits.log_softmax(2), torch.zeros(2, dtype=torch.long))
    p = margins[..., 0].double().sigmoid()
    variance = p * (1 - p)
    # image 0: 20 and 16 have saturated; the loss of 2 has not, so that its gradient has 1 - p in it already
    expected = torch.stack((p[0, 0], variance[1, 0], variance[2, 0])) / variance[0, 0]
    assert torch.allclose(weights[:, 0], expected, rtol=1e-6)
    plain = weights_of_draws(logits[:2].log_softmax(2), torch.zeros(2, dtype=torch.long))[:, 1]
    assert torch.allclose(plain, p[:2, 1] / p[1, 1])


class NotFinite(nn.Module):
    """A random network whose gradient is NaN at black pixels."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1024, 10)

    def forward(self, x):
        return self.layer(x.sqrt().pow(2).flatten(1)) + 0.1 * torch.randn(len(x), 10)


@pytest.mark.filterwarnings("ignore")
def test_gradients_of_draws_are_finite_where_the_module_has_none(digits):
    """An attack with draws on demand runs on a module with NaN in its gradients, and its row is suspect."""
    torch.manual_seed(0)
    result = rb.attack(NotFinite(), digits.subset(4), "pgd", eps=0.1, steps=2, eot_draws="auto")
    row = result.summary.iloc[-1]
    assert row["gradients_not_finite"] == 1
    assert row["status"].startswith("suspect: ")
    assert 2 <= row["eot_draws"] <= 64


def test_honest_gradients_of_draws_keep_every_bit():
    """Without saturation the parts are the gradients of the losses times p over the largest p."""
    model, data = make_model(), make_data(3)
    (one, _), images = victims(model, data)
    parts = one.gradients_of_draws(images, 0, 3)
    gradients, at_label = [], []
    for draw in one._draws(0, 3).chunks(1):
        x = images.clone().requires_grad_()
        log_probs = one._passed(x, draw)[0]
        loss = -log_probs.gather(1, data.labels[:, None])[:, 0]
        gradients.append(torch.autograd.grad(loss.sum(), x)[0])
        at_label.append(-loss.detach())
    weight = torch.stack(at_label)
    expected = torch.stack(gradients) * (weight - weight.amax(0)).exp()[..., None, None, None]
    assert torch.equal(parts, expected)
