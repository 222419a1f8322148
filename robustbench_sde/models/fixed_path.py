"""A random classifier whose noise has been fixed: the defender without its dice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws, Stream


class FixedPath:
    """A classifier whose image always has one Brownian path, whichever draw is asked for.

    The path is one of the `audit` stream, so that knowing it tells nothing about any score draw.
    """

    #: every draw is the same
    stochastic = False

    def __init__(self, model: RandomClassifier, draw: int = 0) -> None:
        self._model, self._draw = model, draw

    @property
    def name(self) -> str:
        """Name in tables."""
        return self._model.name

    @property
    def noise(self) -> str:
        """The diffusion term, which is still there."""
        return self._model.noise

    @property
    def sigma(self) -> float:
        """Noise scale."""
        return self._model.sigma

    @property
    def solver(self) -> str:
        """Name of the model's solver; empty if it has none of ours."""
        return getattr(self._model, "solver", "")

    @property
    def steps(self) -> int:
        """Number of the model's steps, or 0."""
        return getattr(self._model, "steps", 0)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self._model.image_shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._model.classes

    @property
    def precision(self) -> str:
        """Precision of the model."""
        return self._model.precision

    @property
    def device(self) -> torch.device:
        """Device that images must be on."""
        return self._model.device

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Logits (draws, images, classes), the same for each draw."""
        fixed = Draws(draws.seed, Stream.AUDIT, range(self._draw, self._draw + 1))
        return self._model.logits(images, image_ids, fixed).expand(len(draws), -1, -1)
