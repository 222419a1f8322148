"""Networks written with torchsde and torchdiffeq, evaluated as they are."""

import dataclasses

import pandas as pd
import pytest
import torch
from builders import make_data
from torch import nn

import robustbench_sde as rb
from robustbench_sde.errors import BenchWarning


class TorchSDE(nn.Module):
    """dh = -h dt + 0.3 dB on 4 numbers, by torchsde."""

    sde_type, noise_type = "ito", "diagonal"

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(144, 4)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.stem.weight.copy_(0.3 * torch.randn(4, 144, generator=generator))
            self.stem.bias.zero_()

    def f(self, t, h):
        return -h

    def g(self, t, h):
        return torch.full_like(h, 0.3)

    def forward(self, images):
        from torchsde import sdeint

        return sdeint(self, self.stem(images.flatten(1)), torch.tensor([0.0, 1.0]), dt=0.25, method="euler")[
            1
        ]


class TorchDiffEq(TorchSDE):
    """The same without noise, by torchdiffeq's fixed steps."""

    def forward(self, images):
        from torchdiffeq import odeint

        times = torch.tensor([0.0, 1.0])
        step = {"method": "rk4", "options": {"step_size": 0.25}}
        return odeint(self.f, self.stem(images.flatten(1)), times, **step)[1]


def labelled(count=16):
    """Images with the labels that the noiseless network gives them."""
    data = make_data(count)
    return dataclasses.replace(data, labels=TorchDiffEq()(data.images / 255).argmax(1))


def test_a_torchsde_network_reproduces_and_passes_its_control():
    """Its entropy comes from numpy's global generator, which is pinned: two runs agree to the last bit."""
    data = labelled()
    with pytest.warns(BenchWarning, match="noise of its own"):
        model = rb.as_classifier(TorchSDE().eval(), data, name="mine")
    first, second = (rb.attack(model, data, eps=0.2, steps=3, eot_draws=8, score_draws=16) for _ in range(2))
    assert set(first.summary["noise"]) == {"opaque"}
    assert first.summary["accuracy"].iloc[2] < first.summary["accuracy"].iloc[0]
    pd.testing.assert_frame_equal(first.records, second.records, check_exact=True)
    assert first.records["margin_error"].gt(0).all()


def test_the_noise_of_a_torchsde_network_has_its_law():
    """Scores of an image spread as the closed form says: variance of the exact Euler recursion, 5 sigma."""
    from robustbench_sde.sde.draws import Draws, Stream

    data = labelled(2)
    with pytest.warns(BenchWarning):
        model = rb.as_classifier(TorchSDE().eval(), data)
    logits = model.logits(data.images / 255, data.ids, Draws(0, Stream.SCORE, range(400)))
    expected = 0.09 * 0.25 * sum(0.75 ** (2 * k) for k in range(4))
    measured = logits.var(0)  # (2, 4): eight independent estimates
    assert measured.mean().item() == pytest.approx(expected, rel=5 * (2 / (8 * 399)) ** 0.5)


def test_a_torchdiffeq_network_is_deterministic_and_runs_once():
    """One score draw; the images of the attack fool it."""
    data = labelled()
    result = rb.attack(TorchDiffEq().eval(), data, eps=0.2, steps=3)
    assert set(result.summary["noise"]) == {"none"}
    assert set(result.summary["score_draws"]) == {1}
    assert result.summary["accuracy"].iloc[2] < 0.5


def test_our_classifier_as_a_plain_module_for_other_libraries():
    """torchattacks and foolbox attack it; their images are scored by us, in the ball that they promise."""
    import foolbox
    import torchattacks
    from builders import make_model

    model = make_model("multiplicative")
    data = make_data(12)
    clean = rb.score(model, data).records["prediction"]
    data = dataclasses.replace(data, labels=torch.tensor(clean.to_numpy()))
    net = rb.as_module(model, draws=4)
    images = data.images / 255
    theirs = torchattacks.PGD(net, eps=0.2, alpha=0.05, steps=5)(images, data.labels)
    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1))
    _, fooled, _ = foolbox.attacks.LinfPGD(steps=5, rel_stepsize=0.25)(
        wrapped, images, data.labels, epsilons=0.2
    )
    for adversarial in (theirs, fooled):
        result = rb.score(model, data, images=adversarial, norm="linf", eps=0.2)
        assert result.summary["accuracy"].iloc[0] < 0.7


def test_a_plain_module_has_fresh_draws_unless_they_are_fixed():
    """Its output is the log of a mean of probabilities; a deterministic classifier runs once."""
    from builders import make_model

    images = make_data(3).images / 255
    fresh, fixed = (rb.as_module(make_model(), draws=4, fixed=fixed) for fixed in (False, True))
    assert not torch.equal(fresh(images), fresh(images))
    assert torch.equal(fixed(images), fixed(images))
    torch.testing.assert_close(fresh(images).exp().sum(1), torch.ones(3))
    assert next(fresh.parameters()).device.type == "cpu"
    ode = rb.as_module(make_model("none"))
    assert torch.equal(ode(images), ode(images))
