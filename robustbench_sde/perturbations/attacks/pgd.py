"""Projected gradient descent through the noise (Madry et al., ICLR 2018; EOT: Athalye et al., ICML 2018)."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.perturbations.attacks.best import Lowest
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative, Positive
from robustbench_sde.perturbations.attacks.targeted import Targetable
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Look, Victim
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import KeyedRandom


@dataclass(frozen=True, kw_only=True)
class PGD(Targetable):
    """Projected gradient descent: steps of fixed size that increase the loss of the mean probability.

    The result is the point of smallest mean margin on the path, including the last point. An image leaves the
    batch as soon as it is certainly misclassified: another class is ten times as probable by `z` standard
    errors, and no single draw gives the label, over the draws of a step and again over fresh draws. This does
    not change the other images.
    """

    name = "pgd"

    #: length of a step, for images in [0, 1]; None is 2.5 eps / steps
    step_size: Positive | None = None
    #: whether to start at a random point of the ball; if not, at the image
    random_start: bool = True
    #: whether certainly misclassified images leave the batch; if not, all images take all steps
    settle: bool = True
    #: number of standard errors by which an image must be misclassified before it leaves
    z: NotNegative = 3.0
    #: number of fresh draws that confirm that an image is misclassified
    confirm: AtLeastOne = CONFIRM_DRAWS

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        step_size = 2.5 * ball.eps / self.steps if self.step_size is None else self.step_size
        x = ball.random(start, victim.ids, images, draw=restart) if self.random_start else images
        best = Lowest(images)
        active = torch.arange(len(images), device=images.device)
        for step in range(self.steps):
            part = victim.only(active)
            look, gradient = part.gradient(x, step)
            settled = self._settled(part, x, look, step)
            best.update(x, look.margin.masked_fill(settled, -math.inf), active)
            stay = (~settled).nonzero()[:, 0]  # the one number of a step that the host waits for
            active, x, gradient = active[stay], x[stay], gradient[stay]
            if not len(active):
                return best.images
            x = ball.project(images[active], x + step_size * ball.norm.steepest(gradient))
        best.update(x, victim.only(active).look(x, self.steps).margin, active)
        return best.images

    def _settled(self, victim: Victim, x: Tensor, look: Look, step: int) -> Tensor:
        if not self.settle:
            return torch.zeros_like(look.margin, dtype=torch.bool)
        fresh = self.steps + 1 + step * victim.steps_of(self.confirm)
        return victim.confirmed(x, look, fresh, partial(Look.fooled_for_good, z=self.z), self.confirm)
