"""The attack that Liu et al. (CVPR 2020) judged their networks by, as their released code has it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.perturbations.attacks.base import BudgetAttack
from robustbench_sde.perturbations.attacks.limits import AtLeastOne
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import KeyedRandom


@dataclass(frozen=True, kw_only=True)
class Liu2020(BudgetAttack):
    """The attack of the paper, L2 PGD by Adam with one draw for each gradient; for comparison only.

    It starts at the image and takes `steps` steps of Adam with learning rate 2 eps / steps, each followed
    by a projection into the ball; the last point is returned. One draw is not an expectation over the
    noise, so the accuracy of a random model under this attack is too high.
    """

    name = "liu2020"
    norms = ("l2",)

    eot_draws: AtLeastOne = 1

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        x = images.clone()
        optimiser = torch.optim.Adam([x], lr=2 * ball.eps / self.steps, maximize=True)
        for step in range(self.steps):
            _, x.grad = victim.gradient(x, step)
            optimiser.step()
            x.copy_(ball.project(images, x))
        return x
