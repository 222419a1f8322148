"""Choice of the worst point of each image among several runs of attacks."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from robustbench_sde.perturbations.attacks.best import Lowest
from robustbench_sde.perturbations.attacks.health import GradientHealth
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch, Perturbed


class Worst:
    """Keeps the point of smallest margin over the select draws for each image, and counts passes."""

    def __init__(self, batch: Batch, passes: int) -> None:
        self._lowest = Lowest(batch.images)
        self._chosen = [""] * len(batch)
        self.health = GradientHealth(len(batch), batch.images.device)
        self.forward_passes = torch.full((len(batch),), passes, dtype=torch.int64)
        self.backward_passes = torch.zeros(len(batch), dtype=torch.int64)
        #: (n,) on the CPU: positions of the images that are not settled
        self.active = torch.arange(len(batch))

    def count(self, victim: Victim) -> None:
        """Add the passes of a run and the gradients that it took; `victim` is of the whole batch."""
        self.forward_passes += victim.forward_passes
        self.backward_passes += victim.backward_passes
        self.health.add(victim.health)

    def where(self, wanted: Callable[[str], bool]) -> Tensor:
        """Return the active images whose worst point is of a member that is wanted: (n,) on the CPU."""
        which = [wanted(self._chosen[row]) for row in self.active.tolist()]
        return self.active[torch.tensor(which, dtype=torch.bool)]

    def update(
        self,
        name: str,
        images: Tensor,
        margin: Tensor,
        settled: Tensor,
        *,
        passes: Tensor | int,
        rows: Tensor | None = None,
    ) -> None:
        """Learn from a run of `name` on the active images, or on `rows` of them; looks took `passes` each."""
        rows = self.active if rows is None else rows
        self.forward_passes[rows] += passes
        worse = self._lowest.update(images, margin, rows.to(margin.device))
        for row in rows[worse.cpu()].tolist():
            self._chosen[row] = name
        self.active = self.active[~torch.isin(self.active, rows[settled.cpu()])]

    def result(self, draws: int) -> Perturbed:
        """Give the worst points of all runs, which averaged `draws` draws in each gradient."""
        made = self._perturbed(self._lowest.images, draws, tuple(self._chosen))
        return replace(made, margins=self._lowest.margin)

    def only(self, images: Tensor, draws: int) -> Perturbed:
        """Give the images of the only run there was: nothing had to be chosen."""
        return self._perturbed(images, draws)

    def _perturbed(self, images: Tensor, draws: int, chosen: tuple[str, ...] = ()) -> Perturbed:
        each = torch.full_like(self.forward_passes, draws)
        return Perturbed(
            images,
            self.forward_passes,
            self.backward_passes,
            each,
            chosen,
            gradients=self.health.shares,
        )
