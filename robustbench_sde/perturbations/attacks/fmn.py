"""Fast Minimum-Norm attack (Pintor et al., NeurIPS 2021), judged by the mean margin over draws."""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.attacks.base import SingleAttack
from robustbench_sde.perturbations.attacks.best import MeanPoint, Nearest
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative, Positive
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.losses import margin_loss
from robustbench_sde.perturbations.attacks.ray import Ray
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim
from robustbench_sde.perturbations.norms import NORMS, Norm, get_norm, per_image
from robustbench_sde.sde.draws import KeyedRandom

#: Share of the first step size on a random model, after the walk without its noise.
_SHORT = 0.3
#: Lengths of the way of an image that was never fooled, at which it is looked at in the end.
_FURTHER = (1.005, 1.02, 1.05, 1.1, 1.3, 2.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class FastMinimumNorm(SingleAttack):
    """The smallest perturbation, by steps of decaying size in a ball that shrinks while the image is fooled.

    On a random model the first half of the steps goes without its noise, if that can be switched off, for one
    pass each; with `eps` all go through the noise. One lucky draw proves nothing there: a point counts as
    fooled if the margin of the mean probability is below zero by `z` standard errors. In the end the nearest
    such point is looked for on the ray from the image through the mean of the last points, with many draws,
    and it must satisfy this again on fresh draws. Images without such a point keep the point of smallest
    margin. With `eps` the ball never becomes larger than `eps`.

    Before the first success the ball reaches beyond the estimated decision boundary by the growth factor.
    Otherwise a curved boundary, or pixels that cannot change, could be approached but never crossed.
    """

    name = "fmn"
    norms = ("l2", "linf")
    minimal = True
    revision = 3  # 1 stood still at the boundary that it had estimated; 2 confirmed at each step

    steps: AtLeastOne = 100
    #: length of the first step (in L2 for every norm); it decays to a hundredth by half a cosine
    step_size: Positive = 1.0
    #: share by which the radius grows or shrinks at first; it decays to a fiftieth
    growth: float = 0.05
    #: number of standard errors by which the mean margin must be below zero
    z: NotNegative = 2.0
    #: number of fresh draws that confirm a point
    confirm: AtLeastOne = CONFIRM_DRAWS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.growth < 1:
            raise BenchError(f"`growth` is {self.growth}; it must be between 0 and 1")

    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        norm, largest = get_norm(self.norm), math.inf if self.eps is None else self.eps
        first = images
        if restart:  # the first start is the image itself
            kick = norm.random(start, victim.ids, images, draw=restart)
            first = (images + min(largest, 0.1) * kick).clamp(0, 1)
        nearest, steps, step_size = Nearest(images), self.steps, self.step_size
        halved = victim.stochastic and self.eps is None and self.steps > 1
        if halved and (silent := victim.without_noise()) is not None:
            steps = -(-self.steps // 2)
            self._descend(silent, images, first, nearest, self.steps - steps, step_size)
            first, step_size, nearest = nearest.images, _SHORT * step_size, Nearest(images)
        mean = self._descend(victim, images, first, nearest, steps, step_size)
        if victim.stochastic:
            nearest = self._confirmed(victim, images, mean, nearest)
        if self.eps is None:
            ray = Ray(norm, self.z, self.confirm)
            self._go_further(victim, images, nearest, self.steps + 1 + ray.steps(victim))
        result = nearest.images
        return result if self.budget is None else self.budget.project(images, result)

    def _descend(
        self, victim: Victim, images: Tensor, first: Tensor, nearest: Nearest, steps: int, step_size: float
    ) -> Tensor:
        """Take `steps` steps from the points `first`; `nearest` learns of the points on the way.

        Returns:
            Mean of the points (B, C, H, W) in the second half of the walk.
        """
        norm, largest = get_norm(self.norm), math.inf if self.eps is None else self.eps
        delta, mean = first - images, MeanPoint(images, steps)
        radius = torch.full((len(images),), largest, device=images.device)
        for step in range(steps + 1):
            x = (images + delta).clamp(0, 1)
            if step == steps:
                look = victim.look(x, step)
            else:
                look, gradient = victim.gradient(x, step, margin_loss)
            size, fooled = norm.size(delta), look.crossed(self.z)
            nearest.update(x, size, look.margin, fooled)
            mean.add(x, step)
            if step == steps:
                break
            cosine = (1 + math.cos(math.pi * step / steps)) / 2
            growth = self.growth * (0.02 + 0.98 * cosine)
            ahead = replace(look, margin=look.margin + self.z * look.error)
            radius = self._next_radius(norm, radius, size, ahead, gradient, fooled, nearest, growth)
            radius = radius.clamp_max(largest)
            length = step_size * (0.01 + 0.99 * cosine)
            delta = _into(norm, delta + length * NORMS["l2"].steepest(gradient), radius)
            delta = (images + delta).clamp(0, 1) - images
        return mean.point

    def _confirmed(self, victim: Victim, images: Tensor, points: Tensor, nearest: Nearest) -> Nearest:
        """Return the nearest confirmed points on rays.

        Args:
            victim: the model.
            images: (B, C, H, W) clean images.
            points: (B, C, H, W) points on the rays.
            nearest: points that few draws have found; what is not confirmed keeps that of smallest margin.
        """
        norm, largest = get_norm(self.norm), math.inf if self.eps is None else self.eps
        ray, kept = Ray(norm, self.z, self.confirm, largest=largest), Nearest(images)
        kept.update(nearest.images, nearest.distance, nearest.margin, torch.zeros_like(nearest.found))
        rows = (nearest.found | (self.eps is None)).nonzero()[:, 0]
        if len(rows):
            part = victim.only(rows)
            ahead = part.look(images[rows], self.steps + 1).margin.clamp_min(0)
            found = ray.settle(
                part,
                images[rows],
                points[rows],
                self.steps + 2,
                ahead=ahead,
                nearest=kept.distance[rows],
            )
            kept.update(found.images, found.distance, found.margin, found.found, rows)
        return kept

    def _go_further(self, victim: Victim, images: Tensor, nearest: Nearest, first: int) -> None:
        """Move images that were never fooled further along their direction, until they are fooled.

        Args:
            victim: the model.
            images: (B, C, H, W) clean images.
            nearest: their points so far, which learns of the new ones.
            first: step whose draws the first look uses.
        """
        delta = nearest.images - images
        for turn, factor in enumerate(_FURTHER):
            rows = (~nearest.found).nonzero()[:, 0]
            if not len(rows):
                break
            part, step = victim.only(rows), first + turn * (1 + victim.steps_of(self.confirm))
            x = (images + factor * delta).clamp(0, 1)
            look = part.look(x[rows], step)
            found = torch.zeros_like(nearest.found)
            found[rows] = part.confirmed(
                x[rows], look, step + 1, partial(Look.crossed, z=self.z), self.confirm
            )
            margin = torch.full_like(nearest.distance, math.inf)
            margin[rows] = look.margin
            nearest.update(x, get_norm(self.norm).size(x - images), margin, found)

    @staticmethod
    def _next_radius(
        norm: Norm,
        radius: Tensor,
        size: Tensor,
        look: Look,
        gradient: Tensor,
        fooled: Tensor,
        nearest: Nearest,
        growth: float,
    ) -> Tensor:
        """Return radii: smaller if fooled, else larger; beyond the estimated boundary before any success."""
        flat = gradient.flatten(1)
        slope = flat.abs().sum(1) if norm.name == "linf" else flat.norm(dim=1)
        guess = size + look.margin.clamp_min(0) / slope.clamp_min(1e-12)
        outside = torch.where(nearest.found, radius, guess) * (1 + growth)
        inside = torch.minimum(radius, nearest.distance) * (1 - growth)
        return torch.where(fooled, inside, outside)


def _into(norm: Norm, delta: Tensor, radius: Tensor) -> Tensor:
    """Project each image into the ball with its own radius."""
    if norm.name == "linf":
        return torch.minimum(torch.maximum(delta, per_image(-radius)), per_image(radius))
    return delta * per_image((radius / norm.size(delta).clamp_min(1e-30)).clamp_max(1.0))
