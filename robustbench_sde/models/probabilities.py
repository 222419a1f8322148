"""Forward passes over many draws, in pieces that fit."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws


def log_probabilities(
    model: RandomClassifier, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws, *, rows: int
) -> Tensor:
    """Log softmax of every draw, without gradients: (draws, B, classes); one draw where all are the same.

    Args:
        images: (B, C, H, W) float in [0, 1].
        rows: at most so many folded rows (images x draws) a forward pass.
    """
    if not model.stochastic:
        draws = next(draws.chunks(1))
    with torch.no_grad():
        pieces = [
            model.logits(images, image_ids, piece).log_softmax(-1)
            for piece in draws.chunks(max(1, rows // len(images)))
        ]
    return torch.cat(pieces)


def log_mean(log_probs: Tensor) -> Tensor:
    """Log of the mean probability over draws: (draws, B, classes) to (B, classes)."""
    return log_probs.logsumexp(0) - math.log(len(log_probs))


def split_label(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value at the label, the largest other value, and the class of the latter; each (B,).

    Args:
        values: (B, classes) probabilities or logits.
        labels: (B,) int64.
    """
    at_label = values.gather(1, labels[:, None])[:, 0]
    others = values.scatter(1, labels[:, None], -torch.inf)
    largest, runner_up = others.max(1)
    return at_label, largest, runner_up
