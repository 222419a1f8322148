"""Projected gradient descent through the noise (Madry et al., ICLR 2018; EOT: Athalye et al., ICML 2018)."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.perturbations.attacks.best import Lowest
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative, Positive
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.reach import STANDS, Reach
from robustbench_sde.perturbations.attacks.targeted import Targetable
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import KeyedRandom

#: Log odds of two to one: without noise an image goes on until no other device or precision undoes it.
_TWICE = math.log(2)
#: Draws of the gradients of an image that is misclassified already, but not by all draws.
_FEW = 4


@dataclass(frozen=True, kw_only=True)
class PGD(Targetable):
    """Projected gradient descent: steps of fixed size that increase the loss of the mean probability.

    The result is the point of smallest mean margin on the path, including the last point. An image leaves the
    batch as soon as it is certainly misclassified: another class is ten times as probable by `z` standard
    errors, and no single draw gives the label, over the draws of a step and again over fresh draws; without
    noise, another class is twice as probable. It also leaves if it will stand: the attack has gone as far as
    eps, and the slope along its path says that the ball would have to be 1.75 times as large (only on
    networks of this package, whose slopes can be believed). Neither changes the other images.
    """

    name = "pgd"
    revision = 2  # 1 let no image leave that stands

    #: length of a step, for images in [0, 1]; None is 2.5 eps / steps
    step_size: Positive | None = None
    #: whether to start at a random point of the ball; if not, at the image
    random_start: bool = True
    #: whether images that certainly fall or stand leave the batch; if not, all images take all steps
    settle: bool = True
    #: number of standard errors by which an image must be misclassified before it leaves
    z: NotNegative = 3.0
    #: number of fresh draws that confirm that an image is misclassified
    confirm: AtLeastOne = CONFIRM_DRAWS

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        x = ball.random(start, victim.ids, images, draw=restart) if self.random_start else images
        best = Lowest(images)
        reach = Reach(ball, images) if self.settle and victim.can_stand and not self.target else None
        active = torch.arange(len(images), device=images.device)
        fallen = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for step in range(self.steps):
            part = victim.only(active)
            look, gradient = self._gradient(part, x, step, fallen)
            gone = self._gone(part, x, look, step)
            best.update(x, look.margin.masked_fill(gone, -math.inf), active)
            fallen = look.fooled(self.z)
            if reach is not None:
                reach.learn(x, look, gradient, part.labels, active, self.z)
                if step * self._step_size(ball) >= ball.eps:
                    standing = reach.of(active) > STANDS
                    part.leave_standing(standing)
                    gone = gone | standing
            stay = (~gone).nonzero()[:, 0]  # the one number of a step that the host waits for
            active, x, gradient, fallen = active[stay], x[stay], gradient[stay], fallen[stay]
            if not len(active):
                return best.images
            x = ball.project(images[active], x + self._step_size(ball) * ball.norm.steepest(gradient))
        best.update(x, victim.only(active).look(x, self.steps).margin, active)
        return best.images

    def _gradient(self, victim: Victim, x: Tensor, step: int, fallen: Tensor) -> tuple[Look, Tensor]:
        """Compute gradients: with all draws where an image is not fooled, with few where it was."""
        few = min(_FEW, victim.eot_draws)
        if few == victim.eot_draws or not self.settle:
            return victim.gradient(x, step)
        looks, gradients, places = [], [], []
        for draws, which in ((victim.eot_draws, ~fallen), (few, fallen)):
            rows = which.nonzero()[:, 0]
            if len(rows):
                look, gradient = victim.only(rows).gradient(x[rows], step, draws=draws)
                looks.append(look)
                gradients.append(gradient)
                places.append(rows)
        back = torch.cat(places).argsort()
        return Look.joined(looks).only(back), torch.cat(gradients)[back]

    def _step_size(self, ball: Ball) -> float:
        return 2.5 * ball.eps / self.steps if self.step_size is None else self.step_size

    def _gone(self, victim: Victim, x: Tensor, look: Look, step: int) -> Tensor:
        if not self.settle:
            return torch.zeros_like(look.margin, dtype=torch.bool)
        if not victim.stochastic:
            return look.margin < -_TWICE
        fresh = self.steps + 1 + step * victim.steps_of(self.confirm)
        return victim.confirmed(x, look, fresh, partial(Look.fooled_for_good, z=self.z), self.confirm)
