"""The health of gradients: how many of an image's are zero, not finite, or saturated; counted in passing."""

import torch
from torch import Tensor

from robustbench_sde.perturbations.base import GRADIENT_SIGNS


class GradientHealth:
    """Counts of gradients by image."""

    def __init__(self, images: int, device: torch.device) -> None:
        self._taken = torch.zeros(images, dtype=torch.int64, device=device)
        self._counts = torch.zeros(images, len(GRADIENT_SIGNS), dtype=torch.int64, device=device)

    def count(self, rows: Tensor, peak: Tensor, standing: Tensor, saturated: Tensor) -> None:
        """Count one gradient of some images.

        Args:
            rows: (n,) int64 positions of the images, on the device.
            peak: (n,) largest absolute entry of each gradient; NaN or inf where an entry is.
            standing: (n,) bool, whether the image is not fooled yet; others need no gradient.
            saturated: (n,) bool, whether the loss had saturated.
        """
        self._taken[rows] += 1
        self._counts[rows] += torch.stack(((peak == 0) & standing, ~peak.isfinite(), saturated), 1)

    def add(self, other: "GradientHealth") -> None:
        """Add the counts of another run on the same images."""
        self._taken += other._taken
        self._counts += other._counts

    @property
    def shares(self) -> Tensor:
        """(B, signs) float64 on the CPU: share of an image's gradients with each sign; NaN without any."""
        return (self._counts.double() / self._taken[:, None]).cpu()
