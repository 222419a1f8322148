"""The best point of each image so far, by one of two orders: the smallest margin, or the shortest way."""

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
        self._margin = torch.full((len(images),), math.inf, device=images.device)

    def update(self, images: Tensor, distance: Tensor, margin: Tensor, confirmed: Tensor) -> Tensor:
        """Keep points that are better than any before.

        Args:
            images: (B, C, H, W) points.
            distance: (B,) how far each is from its clean image.
            margin: (B,) its margin, which decides while nothing is confirmed.
            confirmed: (B,) bool, whether it counts as fooled.

        Returns:
            (B,) bool, true where a point was kept.
        """
        nearer = confirmed & (distance < self.distance)
        lower = ~confirmed & ~self.found & (margin < self._margin)
        better = nearer | lower
        self.images = torch.where(per_image(better), images, self.images)
        self.distance = torch.where(nearer, distance, self.distance)
        self._margin = torch.where(better, margin, self._margin)
        self.found = self.found | confirmed
        return better
