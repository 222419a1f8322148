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


def mean_error(values: Tensor, *, paired: bool = True) -> Tensor:
    """Return the standard error of the mean over draws: (draws, ...) to (...); NaN where it is unknown.

    Draws 2j and 2j + 1 are a pair, whose draws may depend on each other (`sde.philox`), and pairs are
    independent: the error is that of the mean of pairs. A last draw without a partner varies as a draw does.
    Draws that are all independent may be treated as pairs, too. Fewer than two pairs do not show the error.

    Args:
        values: one value for each of consecutive draws, the first of them even.
        paired: False if all draws are independent; then two draws show the error.
    """
    count = len(values)
    pairs = count // 2
    if not paired or pairs < 2:
        unknown = count < 2 or paired
        return values.std(0) / math.sqrt(count) if not unknown else torch.full_like(values[0], math.nan)
    sums = values[: 2 * pairs].unflatten(0, (pairs, 2)).sum(1)
    variance = pairs * sums.var(0)
    if count > 2 * pairs:
        variance = variance + values.var(0)
    error: Tensor = variance.sqrt() / count
    return error


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
