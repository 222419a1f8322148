"""Networks written with torchsde and torchdiffeq, evaluated as they are."""

import dataclasses
from pathlib import Path

import numpy as np
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
    """A network without noise, by torchdiffeq's fixed steps."""

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
    """The entropy of torchsde, from numpy's global generator, is pinned: two runs agree to the last bit."""
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


def torchattacks_pgd(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    import torchattacks

    return torchattacks.PGD(net, eps=0.2, alpha=0.05, steps=5)(images, labels)


def foolbox_pgd(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=5, rel_stepsize=0.25)
    return attack(wrapped, images, labels, epsilons=0.2)[1]


def art_pgd(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    pytest.importorskip("art", reason="needs the Adversarial Robustness Toolbox")
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    shape = tuple(images.shape[1:])
    wrapped = PyTorchClassifier(net, nn.CrossEntropyLoss(), shape, nb_classes=4, clip_values=(0.0, 1.0))
    attack = ProjectedGradientDescent(wrapped, eps=0.2, eps_step=0.05, max_iter=5, verbose=False)
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


@pytest.mark.parametrize("attack", [torchattacks_pgd, foolbox_pgd, art_pgd])
def test_other_libraries_attack_our_classifier_and_we_judge(attack, tmp_path: Path):
    """Their images stay in the ball that they promise and fool it; saved, they are judged the same."""
    from builders import make_model

    model = make_model("multiplicative")
    data = make_data(12)
    clean = rb.score(model, data).records["prediction"]
    data = dataclasses.replace(data, labels=torch.tensor(clean.to_numpy()))
    adversarial = attack(model.as_module(draws=4), data.images / 255, data.labels)
    result = rb.score(model, data, adversarial, norm="linf", eps=0.2)
    assert result.summary["accuracy"].iloc[-1] < 0.7 < result.summary["accuracy"].iloc[0]
    np.savez(tmp_path / "theirs.npz", x=adversarial.numpy(), ids=data.ids.numpy(), y=data.labels.numpy())
    again = rb.score(model, data, tmp_path / "theirs.npz", norm="linf", eps=0.2)
    named = "chosen"  # after the file
    assert again.records.drop(columns=named).equals(result.records.drop(columns=named))


def test_a_plain_module_has_fresh_draws_unless_they_are_fixed():
    """The output is the log of a mean of probabilities; a deterministic classifier runs once."""
    from builders import make_model

    images = make_data(3).images / 255
    fresh, fixed = (make_model().as_module(draws=4, fixed=fixed) for fixed in (False, True))
    assert not torch.equal(fresh(images), fresh(images))
    assert torch.equal(fixed(images), fixed(images))
    torch.testing.assert_close(fresh(images).exp().sum(1), torch.ones(3))
    assert next(fresh.parameters()).device.type == "cpu"
    assert not fresh.training  # libraries warn of a model in training mode
    ode = make_model("none").as_module()
    assert torch.equal(ode(images), ode(images))
