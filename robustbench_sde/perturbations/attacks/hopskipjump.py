"""HopSkipJump (Chen, Jordan & Wainwright, IEEE S&P 2020), foolbox's, which sees only decisions."""

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import SingleAttack
from robustbench_sde.perturbations.attacks.best import Lowest
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim
from robustbench_sde.perturbations.norms import get_norm, per_image
from robustbench_sde.sde.draws import KeyedRandom

#: How far past the point that was found, in units of the way to it.
_PAST = (1.0, 1.01, 1.03, 1.1, 1.3)
#: Decisions of a step beside its gradient estimate: binary search, step size, its share of finding a way in.
_SEARCH = 40


@dataclass(frozen=True, kw_only=True)
class HopSkipJump(SingleAttack):
    """The smallest perturbation, found along the decision boundary from decisions only; slow, image by image.

    The attack fails if repeated decisions differ, so it uses the decision of the mean over one fixed set of
    draws. Fresh draws then determine how far beyond this boundary the point must be: as far as it is
    misclassified by `z` standard errors, up to 1.3 times the way to it, or with `eps` the distance within the
    ball with the smallest margin.
    """

    name = "hopskipjump"
    norms = ("l2", "linf")
    minimal = True
    gradients = False

    #: number of gradient estimates, each followed by a search for the boundary
    steps: AtLeastOne = 10
    #: number of decisions for the first gradient estimate
    queries: AtLeastOne = 30
    #: number of draws of each decision
    confirm: AtLeastOne = CONFIRM_DRAWS
    #: number of standard errors by which the mean margin must be below zero
    z: NotNegative = 2.0

    def draws_per_look(self, model: RandomClassifier) -> int:
        return self.confirm if model.stochastic else 1

    def gradients_per_step(self, model: RandomClassifier) -> int:
        return 4 * self.queries + _SEARCH

    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        found = torch.cat(
            [
                self._one(victim.only(torch.tensor([row])), images[row : row + 1], start, restart)
                for row in range(len(images))
            ]
        )
        return self._past(victim, images, found)

    def _one(self, victim: Victim, image: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        foolbox: Any = import_module("foolbox")  # heavy: only where it is used

        from robustbench_sde.perturbations.attacks.foolbox_model import FoolboxModel, seeded

        if bool((victim.look(image, 0, draws=self.confirm).margin < 0).all()):
            return image  # nothing to look for
        attack = foolbox.attacks.HopSkipJumpAttack(
            foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(directions=100, steps=20),
            steps=self.steps,
            initial_gradient_eval_steps=self.queries,
            max_gradient_eval_steps=4 * self.queries,
            constraint=self.norm,
        )
        with seeded(start, victim.ids, restart), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that random images fail is handled below
            try:
                result: Tensor = attack.run(
                    FoolboxModel(victim, fixed_draws=self.confirm),
                    image,
                    foolbox.Misclassification(victim.labels),
                )
            except ValueError:  # no random image is misclassified: there is no way in
                return image
        return result.detach().clamp(0, 1)

    def _past(self, victim: Victim, images: Tensor, found: Tensor) -> Tensor:
        """The first point on the way past `found` that is fooled on fresh draws, or the best in the ball."""
        best = Lowest(images)
        done = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        reach = torch.ones(len(images), device=images.device)
        if self.budget is not None:
            reach = self.budget.eps / get_norm(self.norm).size(found - images).clamp_min(1e-12)
        for turn, factor in enumerate(_PAST):
            # in a ball: from its surface inwards; without one: outwards from the point that was found
            length = reach.clamp_max(1e6) / factor if self.budget is not None else reach * factor
            x = (images + per_image(length) * (found - images)).clamp(0, 1)
            x = x if self.budget is None else self.budget.project(images, x)
            look = victim.look(x, (turn + 1) * victim.steps_of(self.confirm), draws=self.confirm)
            best.update(x, torch.where(done, torch.inf, look.margin))
            if self.budget is None:
                done |= look.fooled(self.z)
        return best.images
