"""The best point of each image so far: of smallest margin, the nearest one, or a mean of the last ones."""

import math

import torch
from torch import Tensor

from robustbench_sde.perturbations.norms import per_image


class Lowest:
    """The point of smallest margin so far, for each image; the image itself before any is seen."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.clone()
        self.margin = torch.full((len(images),), math.inf, device=images.device)

    def update(self, images: Tensor, margin: Tensor, rows: Tensor | None = None) -> Tensor:
        """Keep points whose margin is smaller than any before.

        Args:
            images: (n, C, H, W) points.
            margin: (n,) their margins; NaN is never smaller.
            rows: (n,) int64 positions of the images that these are points of; None is all of them.

        Returns:
            (n,) bool, true where a point was kept.
        """
        rows = torch.arange(len(self.images), device=margin.device) if rows is None else rows
        better = margin < self.margin[rows]
        self.images[rows] = torch.where(per_image(better), images, self.images[rows])
        self.margin[rows] = torch.where(better, margin, self.margin[rows])
        return better


class Nearest:
    """The closest confirmed point so far, for each image, or else the one of smallest margin."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        #: (B,) bool, whether a confirmed point was seen
        self.found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        #: (B,) distance of the closest confirmed point, inf before there is one
        self.distance = torch.full((len(images),), math.inf, device=images.device)
        #: (B,) margin of the point that is kept
        self.margin = torch.full((len(images),), math.inf, device=images.device)

    def update(
        self,
        images: Tensor,
        distance: Tensor,
        margin: Tensor,
        confirmed: Tensor,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Keep points that are better than any before.

        Args:
            images: (n, C, H, W) points.
            distance: (n,) how far each is from its clean image.
            margin: (n,) its margin, which decides while nothing is confirmed.
            confirmed: (n,) bool, whether it counts as fooled.
            rows: (n,) int64 positions of the images that these are points of; None is all of them.

        Returns:
            (n,) bool, true where a point was kept.
        """
        rows = torch.arange(len(self.images), device=distance.device) if rows is None else rows
        nearer = confirmed & (distance < self.distance[rows])
        lower = ~confirmed & ~self.found[rows] & (margin < self.margin[rows])
        better = nearer | lower
        self.images = self.images.index_put(
            (rows,), torch.where(per_image(better), images, self.images[rows])
        )
        self.distance = self.distance.index_put((rows,), torch.where(nearer, distance, self.distance[rows]))
        self.margin = self.margin.index_put((rows,), torch.where(better, margin, self.margin[rows]))
        self.found = self.found.index_put((rows,), self.found[rows] | confirmed)
        return better


class MeanPoint:
    """The mean of the points in the second half of a walk: errors of single gradients average out in it."""

    def __init__(self, images: Tensor, steps: int) -> None:
        self._sum, self._count, self._from = torch.zeros_like(images), 0, steps // 2

    def add(self, points: Tensor, step: int) -> None:
        """Take in the points (B, C, H, W) of a step, which is counted from 0."""
        if step >= self._from:
            self._sum, self._count = self._sum + points, self._count + 1

    @property
    def point(self) -> Tensor:
        """(B, C, H, W) mean."""
        return self._sum / self._count
