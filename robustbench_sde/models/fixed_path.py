"""Fix the noise of a random classifier, for diagnostics of the defender without its randomness."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier, batch_dependence_of, solver_of
from robustbench_sde.sde.draws import Draws, Stream


class FixedPath:
    """A classifier with one and the same Brownian path for an image, whatever draw is asked for.

    The path is one of the `audit` stream, so that knowing it tells nothing about any score draw.
    """

    #: False: every draw is the same
    stochastic = False

    def __init__(self, model: RandomClassifier, draw: int = 0) -> None:
        self._model, self._draw = model, draw
        self.name, self.noise, self.sigma = model.name, model.noise, model.sigma
        self.image_shape, self.classes, self.precision = model.image_shape, model.classes, model.precision
        #: change that other images would make to its logits (`Interface`); NaN: none
        self.batch_dependence = batch_dependence_of(model)
        #: solver and its steps; empty and 0 for a network of somebody else
        self.solver, self.steps = solver_of(model)

    @property
    def device(self) -> torch.device:
        """Return the device on which images must be."""
        return self._model.device

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Return logits (draws, images, classes), the same for each draw."""
        fixed = Draws(draws.seed, Stream.AUDIT, range(self._draw, self._draw + 1))
        return self._model.logits(images, image_ids, fixed).expand(len(draws), -1, -1)
