"""Fix the noise of a random classifier, for diagnostics of the defender without its randomness."""

from collections.abc import Sequence

from torch import Tensor

from robustbench_sde.models.base import ClassifierAround
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws, Stream


class FixedPath(ClassifierAround):
    """A classifier with one and the same Brownian path for an image, whatever draw is asked for.

    The path is one of the `audit` stream, so that knowing it tells nothing about any score draw.
    """

    #: False: every draw is the same
    stochastic = False

    def __init__(self, model: RandomClassifier, draw: int = 0) -> None:
        super().__init__(model)
        self._draw = draw

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Return logits (draws, images, classes), the same for each draw."""
        fixed = Draws(draws.seed, Stream.AUDIT, range(self._draw, self._draw + 1))
        return self.model.logits(images, image_ids, fixed).expand(len(draws), -1, -1)
