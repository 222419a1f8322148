"""A classifier behind random perturbations: each draw sees another random point around the image."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_sde.models.base import ClassifierAround
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.base import verify
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import Draws


class RandomlyPerturbed(ClassifierAround):
    """A classifier whose draw k is answered at random point k of the image, from its own noise of draw 2k.

    A draw is then a sample of perturbation and noise together. No two have noise that mirrors each other, so
    that draws of an image are independent of each other (those of an opaque module are by themselves). Every
    point is verified as perturbed images are.

    Args:
        model: classifier inside, random or deterministic.
        ball: ball around each image that must hold the points.
        point: function of images (B, C, H, W), their ids, a seed and the number of the point.
    """

    #: draws differ, whatever is inside
    stochastic = True
    #: each draw has a point and noise of its own
    draws_in_pairs = False

    def __init__(
        self, model: RandomClassifier, ball: Ball, point: Callable[[Tensor, Tensor, int, int], Tensor]
    ) -> None:
        super().__init__(model)
        self._ball, self._point = ball, point

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Compute logits (draws, images, classes) of float images (B, C, H, W) in [0, 1].

        Raises:
            InvalidEvaluationError: a point is not an image of the ball.
        """
        ids = torch.as_tensor(image_ids).cpu()
        points = []
        for draw in draws.indices:
            points.append(self._point(images, ids, draws.seed, draw))
            verify(images, points[-1], ids, self._ball)
        apart = torch.stack(points)
        if not self.model.stochastic:
            one = replace(draws, indices=range(1))
            folded = self.model.logits(apart.flatten(0, 1), ids.repeat(len(draws)), one)
            return folded.view(len(draws), len(images), -1)
        if self.model.noise != "opaque":
            draws = replace(draws, indices=range(2 * draws.indices.start, 2 * draws.indices.stop, 2))
        if self.model.images_by_draw:
            return self.model.logits(apart, image_ids, draws)
        each = zip(points, draws.chunks(1), strict=True)
        return torch.cat([self.model.logits(own, image_ids, draw) for own, draw in each])
