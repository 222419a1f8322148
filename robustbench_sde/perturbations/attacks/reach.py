"""Images that will stand: the ball is so much too small that the steps left would change nothing.

Where the log odds of an image are far from zero and change almost linearly in its ball, their slope says
how many times larger the ball would have to be. `benchmarks/standing.py` counts those that would have fallen.
"""

import torch
from torch import Tensor

from robustbench_sde.models.probabilities import split_label
from robustbench_sde.perturbations.attacks.health import SATURATED
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.losses import log_odds_against
from robustbench_sde.perturbations.norms import Ball, per_image

#: Reach of an image above which it is left alone (docs/protocol.md).
STANDS = 1.75


class Reach:
    """How many times larger the ball would have to be for each image, to first order along the path so far.

    At a point x the log odds of the label can still fall by what the gradient g promises in the ball, the
    largest <g, x' - x>, on top of what they have fallen by already. With D the largest such sum along the
    path, D(0) the first one and o(0) the log odds at the start, the reach is o(0) / D, divided once more by
    D / D(0), which is above 1 if the slope grows on the way: then it may grow further.

    Args:
        ball: ball around each image.
        images: (B, C, H, W) clean images.
    """

    def __init__(self, ball: Ball, images: Tensor) -> None:
        self._ball, self._images = ball, images
        self._odds = torch.zeros(len(images), device=images.device)
        self._first = torch.zeros_like(self._odds)
        self._most = torch.zeros_like(self._odds)
        self._sure = torch.ones_like(self._odds, dtype=torch.bool)

    def learn(self, x: Tensor, look: Look, gradient: Tensor, labels: Tensor, rows: Tensor, z: float) -> None:
        """Learn from an evaluation of some images.

        Args:
            x: (n, C, H, W) where it was.
            look: what it showed.
            gradient: (n, C, H, W) of the cross-entropy there.
            labels: (n,) true classes.
            rows: (n,) int64 positions of the images.
            z: standard errors by which an image must be right to stand.
        """
        at_label, largest, _ = split_label(look.log_probs, labels)
        odds = -log_odds_against(look.log_probs, labels)
        # the gradient of a cross-entropy -log p is that of the log odds times 1 - p
        wrong = torch.where(at_label - largest > SATURATED, 1.0, (at_label - odds).exp())
        clean = self._images[rows]
        gain = self._ball.gain(clean, x, gradient / per_image(wrong))
        start = self._first[rows] == 0
        self._odds[rows] = torch.where(start, odds, self._odds[rows])
        promised = gain + (self._odds[rows] - odds).clamp_min(0)
        self._first[rows] = torch.where(start, promised, self._first[rows])
        self._most[rows] = self._most[rows].maximum(promised)
        sound = (gradient.flatten(1).abs().amax(1) > 0) & promised.isfinite()
        self._sure[rows] &= sound & (look.margin - z * look.error > 0)

    def of(self, rows: Tensor) -> Tensor:
        """Return the reach of some images, (n,); 0 for one that was ever in doubt, or without a gradient."""
        reach = self._odds[rows] * self._first[rows] / self._most[rows].square()
        return torch.where(self._sure[rows], reach, 0.0).nan_to_num(0.0, 0.0, 0.0)
