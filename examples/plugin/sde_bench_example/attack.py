"""An attack: a class with a name, its parameters as fields, and one update rule."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_sde.perturbations.attacks.base import BudgetAttack
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import KeyedRandom


@dataclass(frozen=True, kw_only=True)
class FGSM(BudgetAttack):
    """One step of full size along the gradient (Goodfellow et al., ICLR 2015), averaged over the draws."""

    name = "fgsm"

    #: the only step
    steps: int = 1

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        _, gradient = victim.gradient(images, step=0)
        return ball.project(images, images + ball.eps * ball.norm.steepest(gradient))
