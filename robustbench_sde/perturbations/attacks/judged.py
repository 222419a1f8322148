"""Looks on the `select` stream, which choose the worst of several points: few draws where few decide."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.models.probabilities import log_probabilities
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.looks import Aim
from robustbench_sde.sde.draws import Draws, Stream

#: Draws of the first look.
_FIRST = 8
#: Standard errors of the first look from which on it decides: as rare for its four pairs of draws (Student's
#: t with three degrees of freedom) as three standard errors of a known spread, 3 in 1,000.
_CLEAR = 9.0


@dataclass(frozen=True)
class Judged:
    """Margins of points over the `select` draws; every field is (B,)."""

    #: margin of the mean probability, negative where an image is fooled
    margin: Tensor
    #: standard error of the margin over the draws
    error: Tensor
    #: number of draws, int64 on the CPU
    passes: Tensor
    #: whether all logits are finite
    defined: Tensor


def judge(
    model: RandomClassifier, images: Tensor, ids: Tensor, aim: Aim, *, seed: int, draws: int, rows: int
) -> Judged:
    """Look at points with at most `draws` draws of the `select` stream.

    Eight draws come first. They decide where the margin is nine of their standard errors from zero; all other
    points get the rest of the draws.

    Args:
        model: classifier that is attacked.
        images: (B, C, H, W) points.
        ids: (B,) image ids.
        aim: what the attack wants of each image.
        seed: seed of all randomness.
        draws: largest number of draws.
        rows: largest number of rows (images x draws) in one pass.
    """
    first = range(min(_FIRST, draws)) if model.stochastic else range(draws)
    log_probs = log_probabilities(model, images, ids, Draws(seed, Stream.SELECT, first), rows=rows)
    margin, error = aim.margin_and_error(log_probs)
    defined = log_probs.isfinite().all(2).all(0)
    passes = torch.full((len(images),), len(log_probs))
    clear = margin.abs() > _CLEAR * error
    left = (~clear).nonzero()[:, 0]
    if len(first) < draws and len(left):
        rest = Draws(seed, Stream.SELECT, range(len(first), draws))
        there = left.to(ids.device)
        more = log_probabilities(model, images[left], ids[there], rest, rows=rows)
        margin[left], error[left] = aim.only(left).margin_and_error(torch.cat((log_probs[:, left], more)))
        defined[left] &= more.isfinite().all(2).all(0)
        passes[there] += len(more)
    return Judged(margin, error, passes, defined)
