"""Projected gradient descent through the noise (Madry et al., ICLR 2018; EOT: Athalye et al., ICML 2018)."""

from dataclasses import dataclass

from torch import Tensor

from robustbench_sde.perturbations.attacks.base import Best
from robustbench_sde.perturbations.attacks.targeted import Targetable
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import KeyedRandom


@dataclass(frozen=True, kw_only=True)
class PGD(Targetable):
    """Steps of fixed size along the steepest direction of the loss of the mean probability.

    Returns the point of smallest mean margin on the path, the last one included.
    """

    name = "pgd"

    #: in units of images; None is 2.5 eps / steps
    step_size: float | None = None
    #: start at a random point of the ball, or else at the image
    random_start: bool = True

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        step_size = 2.5 * ball.eps / self.steps if self.step_size is None else self.step_size
        x = ball.random(start, victim.ids, images, draw=restart) if self.random_start else images
        best = Best(images)
        for step in range(self.steps):
            look, gradient = victim.gradient(x, step)
            best.update(x, look.margin)
            x = ball.project(images, x + step_size * ball.norm.steepest(gradient))
        best.update(x, victim.look(x, self.steps).margin)
        return best.images
