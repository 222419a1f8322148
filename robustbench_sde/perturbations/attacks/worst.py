"""For each image the worst of several runs."""

import math

import torch
from torch import Tensor

from robustbench_sde.perturbations.base import Batch, Perturbed
from robustbench_sde.perturbations.norms import per_image


class Worst:
    """For each image the point of smallest margin over the select draws, and what it took."""

    def __init__(self, batch: Batch, passes: int) -> None:
        self._images = batch.images.clone()
        self._margin = torch.full((len(batch),), math.inf, device=batch.images.device)
        self._chosen = [""] * len(batch)
        self.forward_passes = torch.full((len(batch),), passes, dtype=torch.int64)
        self.backward_passes = torch.zeros(len(batch), dtype=torch.int64)
        #: (n,) on the CPU: positions of the images that are not settled
        self.active = torch.arange(len(batch))

    def count(self, forward: Tensor, backward: Tensor) -> None:
        """Add the passes of a run, (B,) each."""
        self.forward_passes += forward
        self.backward_passes += backward

    def update(self, name: str, images: Tensor, margin: Tensor, settled: Tensor, *, passes: int) -> None:
        """Learn from a run of `name` on the active images."""
        self.forward_passes[self.active] += passes
        where = self.active.to(margin.device)
        worse = margin < self._margin[where]
        self._images[where] = torch.where(per_image(worse), images, self._images[where])
        self._margin[where] = torch.where(worse, margin, self._margin[where])
        for row in self.active[worse.cpu()].tolist():
            self._chosen[row] = name
        self.active = self.active[~settled.cpu()]

    def result(self, draws: int) -> Perturbed:
        """What the runs have found, each with `draws` draws a gradient."""
        return self._perturbed(self._images, draws, tuple(self._chosen))

    def only(self, images: Tensor, draws: int) -> Perturbed:
        """The images of the only run there was: nothing had to be chosen."""
        return self._perturbed(images, draws)

    def _perturbed(self, images: Tensor, draws: int, chosen: tuple[str, ...] = ()) -> Perturbed:
        each = torch.full_like(self.forward_passes, draws)
        return Perturbed(images, self.forward_passes, self.backward_passes, each, chosen)
