"""Random noise of the size of an attack: the control that every attack has to beat."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import BudgetAttack
from robustbench_sde.perturbations.attacks.limits import AtLeastOne
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import KeyedRandom


@dataclass(frozen=True, kw_only=True)
class Noise(BudgetAttack):
    """Uniformly random points of the ball, the worst of `restarts`; the points ignore the model."""

    name = "noise"
    gradients = False

    #: number of random points
    restarts: AtLeastOne = 10

    def draws_per_look(self, model: RandomClassifier) -> int:
        return 0

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        return ball.random(start, victim.ids, images, draw=restart)
