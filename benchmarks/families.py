"""Attackers of other families for `benchmarks/peers.py`: targeted, boundary, black-box and ensemble attacks.

Each sees the mean probability of a random network over `DRAWS` fresh draws a call (one pass of an ODE), by
its logarithm, so that its gradients are those of the expected decision; and each is given at least `budget`
passes of one draw an image, forward passes for black boxes and gradient passes for the others, shared out
among its targets, restarts or members. Attacks that drop an image which one call got wrong take fewer. What
looks for the smallest change is moved into the ball afterwards. The libraries are installed by

    pip install torchattacks adv-lib adversarial-robustness-toolbox multiprocess
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_sde.models.probabilities import log_mean
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.norms import Ball, get_norm
from robustbench_sde.sde.draws import Draws, Stream

#: Draws that a random network is averaged over in every call.
DRAWS = 8
#: Share of the budget that each of the gradient members of ART's ensemble gets.
_MEMBERS = (0.4, 0.4, 0.2)

#: (module, images, labels) to adversarial images
Run = Callable[["MeanDraws", Tensor, Tensor], Tensor]


class MeanDraws(nn.Module):
    """A random classifier as a plain module: log of the mean probability over the next draws of each image.

    Counts passes of one draw times images, forward and backward.
    """

    def __init__(self, model: RandomClassifier) -> None:
        super().__init__()
        self.model = model
        self.draws = DRAWS if model.stochastic else 1
        self.calls = 0
        self.forward_passes = 0
        self.backward_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Compute (B, classes) from images (B, C, H, W) in [0, 1]."""
        # independent draws, as the numbers of `torch.randn` in a user's module are
        draws = Draws.independent(0, Stream.ATTACK, self.calls * self.draws, self.draws)
        self.calls += 1
        self.forward_passes += self.draws * len(images)
        logits = self.model.logits(images.float(), torch.arange(len(images)), draws)
        output = log_mean(logits.log_softmax(-1))
        if output.requires_grad:
            output.register_hook(self._count)
        return output

    def _count(self, gradient: Tensor) -> None:
        self.backward_passes += self.draws * len(gradient)


def families(model: RandomClassifier, eps: float, budget: int) -> Iterator[tuple[str, Run]]:
    """Give each attacker, linf: its name and how it is run.

    Args:
        model: what is attacked.
        eps: the budget of an image.
        budget: passes of one draw an image.
    """
    calls = math.ceil(budget / (DRAWS if model.stochastic else 1))
    targets = model.classes - 1
    ball = Ball(get_norm("linf"), eps)
    torchattacks = import_module("torchattacks")
    each = math.ceil(calls / targets)
    many = {"eps": eps, "n_classes": model.classes}

    yield "torchattacks APGDT", lambda net, x, y: torchattacks.APGDT(net, steps=each, **many)(x, y)
    yield "torchattacks FAB, targeted", lambda net, x, y: ball.project(x, _fab(net, x, y, eps, each))
    yield "torchattacks Square", lambda net, x, y: torchattacks.Square(net, eps=eps, n_queries=calls)(x, y)
    adv_lib = import_module("adv_lib.attacks")

    def apgd_targeted(net: MeanDraws, images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = adv_lib.apgd_targeted(net, images, labels, eps, norm=math.inf, n_iter=each)
        return found

    yield "adv-lib apgd_targeted", apgd_targeted
    yield (
        "adv-lib pdpgd",
        lambda net, x, y: ball.project(x, adv_lib.pdpgd(net, x, y, norm=math.inf, num_steps=calls)),
    )
    yield "ART AutoPGD", lambda net, x, y: _art(net, x, y, lambda art: _auto_pgd(art, eps, calls))
    yield "ART AutoAttack", lambda net, x, y: _art(net, x, y, lambda art: _auto_attack(art, eps, calls))


def _fab(net: MeanDraws, images: Tensor, labels: Tensor, eps: float, steps: int) -> Tensor:
    """Run FAB towards every class in turn, which takes one gradient a step."""
    torchattacks = import_module("torchattacks")
    attack = torchattacks.FAB(net, eps=eps, steps=steps, multi_targeted=True, n_classes=net.model.classes)
    found: Tensor = attack(images, labels)
    return found


def _auto_pgd(estimator: Any, eps: float, calls: int, loss: str = "cross_entropy") -> Any:
    """Make ART's AutoPGD with two starts; the first step is 2 eps, as its authors have it."""
    evasion = import_module("art.attacks.evasion")
    return evasion.AutoProjectedGradientDescent(
        estimator,
        norm=np.inf,
        eps=eps,
        eps_step=2 * eps,
        max_iter=math.ceil(calls / 2),
        nb_random_init=2,
        batch_size=256,
        loss_type=loss,
        verbose=False,
    )


def _auto_attack(estimator: Any, eps: float, calls: int) -> Any:
    """Make ART's ensemble with the members that it has by itself, at sizes that the budget allows."""
    evasion = import_module("art.attacks.evasion")
    first, second, third = (math.ceil(share * calls) for share in _MEMBERS)
    members = [
        _auto_pgd(estimator, eps, first),
        _auto_pgd(estimator, eps, second, "difference_logits_ratio"),
        # a gradient for each of ten classes a step
        evasion.DeepFool(
            estimator,
            max_iter=math.ceil(third / 10),
            epsilon=1e-3,
            nb_grads=10,
            batch_size=256,
            verbose=False,
        ),
        evasion.SquareAttack(estimator, eps=eps, max_iter=calls, batch_size=256, verbose=False),
    ]
    return evasion.AutoAttack(estimator, eps=eps, eps_step=2 * eps, attacks=members, batch_size=256)


def _art(net: MeanDraws, images: Tensor, labels: Tensor, make: Callable[[Any], Any]) -> Tensor:
    """Run an attack of ART, whose numbers come from numpy's global generator."""
    estimators = import_module("art.estimators.classification")
    estimator = estimators.PyTorchClassifier(
        model=net,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=net.model.classes,
        clip_values=(0, 1),
        device_type="cpu",
    )
    with _numpy_seeded():
        found = make(estimator).generate(images.numpy(), y=labels.numpy())
    return torch.from_numpy(found)


@contextmanager
def _numpy_seeded() -> Iterator[None]:
    """Seed numpy's global generator for the block, and restore it."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
