"""The health of an attack: how many of an image's gradients are zero, not finite, saturated or misleading."""

import math

import torch
from torch import Tensor

from robustbench_sde.storage.schema import GRADIENT_SIGNS

#: Margin of log-probabilities from which on a cross-entropy has saturated: 1 - p of the label is below 2^-20,
#: so that p in float32 has lost an eighth of it and more.
SATURATED = 20 * math.log(2)
#: Gradients that are kept before they are counted together: one by one, counting would take time.
_TOGETHER = 64


class GradientHealth:
    """Counts of gradients by image, and whether logits at all points that were tried are finite."""

    def __init__(self, images: int, device: torch.device) -> None:
        self._taken = torch.zeros(images, dtype=torch.int64, device=device)
        self._counts = torch.zeros(images, len(GRADIENT_SIGNS) - 1, dtype=torch.int64, device=device)
        self._checked, self._misleading = torch.zeros_like(self._taken), torch.zeros_like(self._taken)
        self._undefined = torch.zeros(images, dtype=torch.bool, device=device)
        self._kept: list[tuple[Tensor, Tensor, Tensor, bool]] = []

    def see(self, rows: Tensor, defined: Tensor) -> None:
        """Learn whether all logits of a point of some images (n,), seen without a gradient, are finite."""
        self._undefined[rows] |= ~defined

    @property
    def undefined(self) -> Tensor:
        """Positions (n,) on the CPU of images with a point, tried without gradient, of no finite logits."""
        return self._undefined.nonzero()[:, 0].cpu()

    def count(self, rows: Tensor, gradient: Tensor, margin: Tensor, *, can_saturate: bool) -> Tensor:
        """Count one gradient of some images.

        Args:
            rows: (n,) int64 positions of the images, on the device.
            gradient: (n, C, H, W) as it came.
            margin: (n,) of log-probabilities, negative where an image is fooled and needs no gradient.
            can_saturate: whether the loss saturates, a cross-entropy say.

        Returns:
            Largest absolute entry of each gradient, (n,); NaN or inf where an entry is.
        """
        peak = gradient.flatten(1).abs().amax(1)
        self._kept.append((rows, peak, margin, can_saturate))
        if len(self._kept) == _TOGETHER:
            self._settle()
        return peak

    def _settle(self) -> None:
        """Add what is kept to the counts."""
        if not self._kept:
            return
        rows = torch.cat([kept[0] for kept in self._kept])
        peak = torch.cat([kept[1] for kept in self._kept])
        margin = torch.cat([kept[2] for kept in self._kept])
        lengths = torch.tensor([len(kept[0]) for kept in self._kept])
        can = torch.tensor([kept[3] for kept in self._kept]).repeat_interleave(lengths).to(peak.device)
        signs = ((peak == 0) & (margin >= 0), ~peak.isfinite(), (margin > SATURATED) & can)
        self._taken.index_add_(0, rows, torch.ones_like(rows))
        self._counts.index_add_(0, rows, torch.stack(signs, 1).long())
        self._kept = []

    def unchecked(self, rows: Tensor) -> Tensor:
        """Whether no gradient of these images has been compared with the model yet: (n,) bool."""
        return self._checked[rows] == 0

    def check(self, rows: Tensor, misleading: Tensor) -> None:
        """Count the gradients of images (n,) that were compared, and those that were wrong, (n,) bool."""
        self._checked[rows] += 1
        self._misleading[rows] += misleading

    def add(self, other: "GradientHealth") -> None:
        """Add the counts of another run on the same images."""
        self._settle()
        other._settle()
        self._taken += other._taken
        self._counts += other._counts
        self._checked += other._checked
        self._misleading += other._misleading
        self._undefined |= other._undefined

    @property
    def shares(self) -> Tensor:
        """(B, signs) float64 on the CPU: share of an image's gradients with each sign; NaN without any."""
        self._settle()
        shares = self._counts.double() / self._taken[:, None]
        misleading = self._misleading.double() / self._checked
        return torch.cat((shares, misleading[:, None]), 1).cpu()
