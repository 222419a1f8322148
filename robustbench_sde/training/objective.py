"""Compute the loss of a training step, on images or on images that were made harder."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.models.classifier import Classifier
from robustbench_sde.perturbations.norms import Ball, get_norm
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream
from robustbench_sde.training.config import TrainConfig

#: The update of epoch e has draw e of the `train` stream, gradient step s of an attack draw e + (s + 1) times
#: this, which no epoch reaches.
_DRAWS_PER_STEP = 2**32
#: Standard deviation of the random start of TRADES (Zhang et al. 2019, algorithm 1).
_TRADES_START = 1e-3

#: function from logits (B, classes) to a loss that an attack makes large
_Loss = Callable[[Tensor], Tensor]


def objective(
    model: Classifier, config: TrainConfig, images: Tensor, labels: Tensor, ids: Tensor, epoch: int
) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch, and its logits (B, classes), from which training accuracy is counted.

    Everything random is a function of (seed, epoch, image id), whatever the batch.

    Args:
        model: model in training.
        config: configuration of the training.
        images: (B, C, H, W) float in [0, 1], augmented, on the model's device.
        labels: (B,) int64 on that device.
        ids: (B,) image ids, on the CPU.
        epoch: number of the epoch, from 0.
    """
    draws = Draws(config.seed, Stream.TRAIN, range(epoch, epoch + 1))
    if config.adversarial == "trades":
        return _trades(model, config, images, labels, ids, draws)
    if config.adversarial == "pgd":
        images = _hardest(model, config, images, ids, epoch, loss=partial(F.cross_entropy, target=labels))
    if config.augment_noise:
        noise = KeyedRandom(config.seed, Stream.TRAIN, "gaussian").normals(ids, images.shape[1:], draw=epoch)
        images = images + config.augment_noise * noise.to(images)
    logits = model.logits(images, ids, draws)[0]
    return F.cross_entropy(logits, labels), logits


def _trades(
    model: Classifier, config: TrainConfig, images: Tensor, labels: Tensor, ids: Tensor, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy + beta KL(p(x) || p(x')), x' in the ball around x (Zhang et al., ICML 2019).

    Both terms of the update are on one Brownian path, so that they differ by the perturbation alone.
    """
    logits = model.logits(images, ids, draws)[0]
    divergence = partial(_divergence, target=logits.detach().softmax(-1))
    hard = _hardest(model, config, images, ids, draws.indices.start, loss=divergence)
    moved = model.logits(hard, ids, draws)[0]
    loss = F.cross_entropy(logits, labels) + config.trades_beta * _divergence(moved, logits.softmax(-1))
    return loss, logits


def _divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Return KL(target || softmax of the logits), the mean over images."""
    return F.kl_div(logits.log_softmax(-1), target, reduction="batchmean")


def _hardest(
    model: Classifier, config: TrainConfig, images: Tensor, ids: Tensor, epoch: int, *, loss: _Loss
) -> Tensor:
    """Run PGD through the noise, a fresh draw in each step, from a random start (Madry et al., ICLR 2018)."""
    ball = Ball(get_norm(config.adversarial_norm), config.adversarial_eps)
    step_size = config.adversarial_step_size or 2.5 * ball.eps / config.adversarial_steps
    start = KeyedRandom(config.seed, Stream.TRAIN, "adversarial")
    if config.adversarial == "trades":
        noise = _TRADES_START * start.normals(ids, images.shape[1:], draw=epoch)
        x = ball.project(images, images + noise.to(images))
    else:
        x = ball.random(start, ids, images, draw=epoch)
    for step in range(config.adversarial_steps):
        draw = epoch + (step + 1) * _DRAWS_PER_STEP
        x.requires_grad_()
        logits = model.logits(x, ids, Draws(config.seed, Stream.TRAIN, range(draw, draw + 1)))[0]
        (gradient,) = torch.autograd.grad(loss(logits), x)
        x = ball.project(images, x.detach() + step_size * ball.norm.steepest(gradient))
    return x
