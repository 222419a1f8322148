"""A random classifier as a plain `nn.Module`, for the attacks of other libraries."""

from typing import Self

import torch
from torch import Tensor, nn

from robustbench_sde.models.probabilities import log_mean
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws, Stream


class PlainModule(nn.Module):
    """Images (B, C, H, W) in [0, 1] to the log of the mean probability over draws (B, classes).

    Softmax of the output is the mean probability, its gradient that of the loss of the mean: an attack that
    averages nothing by itself gets expectation over transformation. Draws are of the `attack` stream. Fresh
    ones belong to the place of an image in its batch; fixed ones are the same for every image, so that the
    module is a function of the image alone.

    Warning: what a library says about the success of its attack is worth nothing on a random classifier. With
    fresh draws it counts an image as fooled in its luckiest call; with fixed draws it has fooled these draws
    and no others. Take the images, and score them: `robustbench_sde.score`, or `sde-bench score`.
    """

    def __init__(self, model: RandomClassifier, draws: int, *, fixed: bool, seed: int) -> None:
        """See above.

        Args:
            model: what is attacked.
            draws: averaged in every call; a deterministic model needs one.
            fixed: the same draws for every image in every call, instead of the next ones.
            seed: of the draws.
        """
        super().__init__()
        self.draws, self.fixed, self.seed = draws, fixed, seed
        self._calls = 0
        self._model = model
        if model.network is not None:  # libraries look for the device at the parameters
            self.inside = model.network
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Changes nothing inside: libraries switch modes, and would switch off dropout at test time."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return log-probabilities (B, classes) of images (B, C, H, W); float64 ones for float64 images."""
        # from an even draw: no call has the mirror image of another's draw
        first = 0 if self.fixed else self._calls * (self.draws + self.draws % 2)
        self._calls += 1
        draws = Draws(self.seed, Stream.ATTACK, range(first, first + self.draws))
        if not self._model.stochastic:
            draws = next(draws.chunks(1))
        if not len(images):
            return images.flatten(1).sum(1, keepdim=True).expand(-1, self._model.classes)
        ids = [0] * len(images) if self.fixed else range(len(images))
        logits = self._model.logits(images.to(torch.float32), ids, draws)
        log_probs = log_mean(logits.log_softmax(-1))
        return log_probs.double() if images.dtype == torch.float64 else log_probs
