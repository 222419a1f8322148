"""Find classifiers that remember earlier calls: the same images must give the same logits.

On a CPU they must have the same bits. On a GPU, libraries choose the code of an operation anew, for example
when a pass is recorded or memory is short, so that a repeated pass may round differently.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.models.modules.passes import REMEMBERS
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws, Stream

#: Clean images that are classified again; few, since that is done after every cell.
IMAGES = 8
#: relative change of a logit that is rounding on a GPU: in single precision, and with fewer bits
_ROUNDING, _COARSE_ROUNDING = 1e-5, 2e-2


@dataclass(frozen=True, eq=False)
class FirstAnswer:
    """Logits of a few clean images, from before a classifier did anything else."""

    #: (n, C, H, W) float32 in [0, 1], on the device of the classifier
    images: Tensor
    #: (n,) int64 image ids
    ids: Tensor
    #: (1, n, classes) on the CPU, for one draw of the `audit` stream
    logits: Tensor

    @classmethod
    def of(cls, model: RandomClassifier, data: ImageDataset) -> "FirstAnswer":
        """Classify the first images of `data`."""
        images, ids = to_float(data.images[:IMAGES]).to(model.device), data.ids[:IMAGES]
        return cls(images, ids, _logits(model, images, ids))

    def check(self, model: RandomClassifier, *, tolerance: float = 0.0) -> None:
        """Classify the images again.

        Args:
            model: the classifier that gave the first answer.
            tolerance: largest relative change that is taken for rounding; 0 is bit for bit. On a GPU
                `rounding_on` may allow more.

        Raises:
            InvalidEvaluationError: it gives other logits now.
        """
        again = _logits(model, self.images, self.ids)
        change = (again - self.logits).abs()
        tolerance = max(tolerance, rounding_on(self.images.device, model.precision))
        allowed = tolerance * self.logits.abs().amax(-1, keepdim=True)
        differs = ~((again == self.logits) | (change <= allowed) | (again.isnan() & self.logits.isnan()))
        images = differs.any(-1).any(0)
        if images.any():
            first, size = int(self.ids[images][0]), float(change[:, images][:, 0].max())
            raise InvalidEvaluationError(
                f"{REMEMBERS}: {int(images.sum())} of {len(self.ids)} clean images have other logits than "
                f"before the first cell (image {first}: by {size:.2g}); "
                "a module must not change what its next call computes"
            )


def rounding_on(device: torch.device, precision: str) -> float:
    """Return the relative change of a logit that is rounding when a pass is repeated; 0 on a CPU."""
    if device.type == "cpu":
        return 0.0
    return _ROUNDING if precision == "fp32" else _COARSE_ROUNDING


@contextmanager
def unchanged(model: RandomClassifier, data: ImageDataset) -> Iterator[None]:
    """Classify a few images before a block and after it; the logits must be the same, on a CPU to the bit.

    Raises:
        InvalidEvaluationError: they are not, so that nothing that was measured in the block may be used.
    """
    first = FirstAnswer.of(model, data)
    yield
    first.check(model)


@torch.no_grad()
def _logits(model: RandomClassifier, images: Tensor, ids: Tensor) -> Tensor:
    return model.logits(images.clone(), ids, Draws(0, Stream.AUDIT)).detach().cpu().clone()
