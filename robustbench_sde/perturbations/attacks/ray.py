"""The nearest fooling point on the ray from an image through a point, which ends a search for small changes.

A search on few draws ends beyond the boundary by the errors of its looks. On the ray, many draws are paid for
only a few times: all looks of an image use the same ones, so that its margin is a smooth curve over the ray,
and only the nearest point that they find is confirmed, on fresh draws.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.norms import Norm, per_image

#: Most looks at an image that enclose the boundary on its ray.
_LOOKS = 6
#: Share of the way by which the two ends of the enclosed stretch may differ: then nothing more is looked for.
_CLOSE = 0.01
#: Least and largest share by which a look goes on beyond one that is not fooled.
_ON = (1.01, 1.5)
#: Shares of the way to the nearest point that are confirmed, one after the other, each on fresh draws.
_TRIES = (1.0, 1.01, 1.03, 1.08)


class OnRay(NamedTuple):
    """A point on the ray of each image; only where `found` is it the nearest that was confirmed."""

    #: (B, C, H, W)
    images: Tensor
    #: (B,) distance from the clean image
    distance: Tensor
    #: (B,) mean margin of the nearest point that the looks found
    margin: Tensor
    #: (B,) bool
    found: Tensor


@dataclass(frozen=True)
class Ray:
    """How points on rays are judged: fooled if the mean margin is below -`confidence` by `z` errors."""

    norm: Norm
    z: float
    #: number of draws of every look and of every confirmation
    draws: int
    confidence: float = 0.0
    #: largest distance of a point
    largest: float = math.inf

    def steps(self, victim: Victim) -> int:
        """Count the steps whose draws `settle` uses."""
        return (1 + len(_TRIES)) * victim.steps_of(self.draws)

    def settle(
        self,
        victim: Victim,
        images: Tensor,
        points: Tensor,
        first: int,
        *,
        ahead: Tensor,
        nearest: Tensor,
    ) -> "OnRay":
        """Find the nearest confirmed point on the ray of each image.

        Args:
            victim: the model.
            images: (B, C, H, W) clean images.
            points: (B, C, H, W) points, one on each ray.
            first: step whose draws the looks use; confirmations use later ones.
            ahead: (B,) margin of the clean images, at least 0.
            nearest: (B,) distance of the nearest point so far; none that is farther is confirmed.
        """
        size = self.norm.size(points - images)
        most = torch.where(size > 0, self.largest / size.clamp_min(1e-30), 1.0)
        share, margin = self._enclose(victim, images, points, first, ahead, most)
        found = torch.zeros_like(size, dtype=torch.bool)
        rows = torch.arange(len(size), device=size.device)
        for turn, factor in enumerate(_TRIES):
            at = factor * share[rows]
            rows = rows[(at * size[rows] < nearest[rows]) & ((turn == 0) | (at <= most[rows]))]
            if not len(rows):
                break
            good = torch.ones_like(rows, dtype=torch.bool)
            if victim.stochastic:
                x = self._at(images[rows], points[rows], factor * share[rows])
                step = first + (1 + turn) * victim.steps_of(self.draws)
                good = self._value(victim.only(rows).look(x, step, draws=self.draws)) < 0
            found[rows[good]], share[rows[good]] = True, factor * share[rows[good]]
            rows = rows[~good]
        share = torch.where(found, share, 1.0)
        x = self._at(images, points, share)
        return OnRay(x, self.norm.size(x - images), margin, found)

    def _value(self, look: Look) -> Tensor:
        """Compute what has to be below zero: (B,)."""
        return look.margin + self.z * look.error + self.confidence

    @staticmethod
    def _at(images: Tensor, points: Tensor, share: Tensor) -> Tensor:
        return (images + per_image(share) * (points - images)).clamp(0, 1)

    def _enclose(
        self, victim: Victim, images: Tensor, points: Tensor, first: int, ahead: Tensor, most: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the share of the way of the nearest point that counts, inf if none, and its margin: (B,)."""
        share = torch.ones_like(ahead).minimum(most)
        low, at_low = torch.zeros_like(ahead), ahead.clamp_min(1e-6)
        high, at_high = torch.full_like(ahead, math.inf), torch.zeros_like(ahead)
        margin = torch.full_like(ahead, math.inf)
        rows = torch.arange(len(ahead), device=ahead.device)
        for _ in range(_LOOKS):
            x = self._at(images[rows], points[rows], share[rows])
            look = victim.only(rows).look(x, first, draws=self.draws)
            value, here = self._value(look), share[rows]
            good = value < 0
            hits, misses = rows[good], rows[~good]
            high[hits], at_high[hits], margin[hits] = here[good], value[good], look.margin[good]
            low[misses], at_low[misses] = here[~good], value[~good]
            zero = low + (high - low) * at_low / (at_low - at_high)
            enclosed = high.isfinite() & (low > 0) & (high <= (1 + _CLOSE) * zero)
            share = self._next(share, ahead, (low, at_low), (high, at_high)).minimum(most)
            rows = rows[~(enclosed | (share == low))[rows]]
            if not len(rows):
                break
        return high, margin

    @staticmethod
    def _next(
        share: Tensor, ahead: Tensor, low: tuple[Tensor, Tensor], high: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return where to look next: near the secant's zero in the enclosed stretch, or further on."""
        (left, at_left), (right, at_right) = low, high
        secant = left + (right - left) * (at_left / (at_left - at_right)).clamp(0.1, 0.9)
        on = share * (1.005 * ahead / (ahead - at_left).clamp_min(1e-12)).clamp(*_ON)
        return torch.where(right.isfinite(), secant, on)
