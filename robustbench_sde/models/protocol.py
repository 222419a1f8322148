"""Define the interface that an evaluation asks of a classifier, whoever wrote it."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from robustbench_sde.sde.draws import Draws


class RandomClassifier(Protocol):
    """A classifier whose forward pass is a function of the image and a keyed draw."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def noise(self) -> str:
        """Diffusion term, `none`, or `opaque` where the noise is not ours."""

    @property
    def sigma(self) -> float:
        """Noise scale at test time; NaN where unknown."""

    @property
    def stochastic(self) -> bool:
        """False where every draw gives the same logits: one forward pass is then enough."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) that it takes."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def precision(self) -> str:
        """Precision of convolutions and linear maps: `fp32` or `bf16`."""

    @property
    def device(self) -> torch.device:
        """Device that images must be on."""

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Logits (draws, images, classes) of float images (B, C, H, W) in [0, 1].

        Row (k, b) depends on nothing but image b, its id and draw k.
        """
