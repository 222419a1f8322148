"""Certificates of a smoothed classifier: for each image a class, and a radius in which it is proven."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.bounds import certified_radius
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.evaluation.looks import Looks, Tally
from robustbench_sde.models.probabilities import log_probabilities
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.sde.draws import Draws, Stream


def certificates(
    model: RandomClassifier,
    data: ImageDataset,
    settings: CertifySettings,
    *,
    sigma: float,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Certify each image with as few draws as answer all radii (Cohen, Rosenfeld & Kolter, ICML 2019).

    Args:
        model: classifier whose every draw adds N(0, sigma^2) to the image.
        data: images and labels.
        settings: draws, error and radii.
        sigma: deviation of that noise, in units of images in [0, 1].
        progress: told of every finished image.

    Returns:
        One row per image: image_id, label, prediction, abstained, p_low, radius, correct, draws. A radius of
        0 with `abstained` is no statement.

    Raises:
        InvalidEvaluationError: logits are not finite.
    """
    images, parts = to_float(data.images), []
    for start in range(0, len(data), settings.rows):
        rows = torch.arange(start, min(start + settings.rows, len(data)))
        here, ids = images[rows].to(model.device), data.ids[rows]
        picked = _picked(model, here, ids, settings)
        tallies, errors = _counted(model, here, ids, picked, settings, sigma)
        lows = [tally.low(settings.rule, error) for tally, error in zip(tallies, errors, strict=True)]
        abstained = np.array(lows) <= 0.5
        parts.append(
            pd.DataFrame(
                {
                    "image_id": ids.numpy(),
                    "label": data.labels[rows].numpy(),
                    "prediction": picked.numpy(),
                    "abstained": abstained,
                    "p_low": lows,
                    "radius": [certified_radius(low, sigma) for low in lows],
                    "correct": (picked == data.labels[rows]).numpy() & ~abstained,
                    "draws": [tally.count for tally in tallies],
                }
            )
        )
        progress.advance(len(rows))
    return pd.concat(parts, ignore_index=True)


def _picked(model: RandomClassifier, images: Tensor, ids: Tensor, settings: CertifySettings) -> Tensor:
    """Pick the class of each image on the `select` stream: (B,) int64 on the CPU."""
    draws = Draws(settings.seed, Stream.SELECT, range(settings.select_draws))
    probs = _checked(log_probabilities(model, images, ids, draws, rows=settings.rows), ids).exp().cpu()
    mean = probs.double().mean(0)
    if settings.rule == "mean-prob":
        return mean.argmax(1)
    votes = torch.nn.functional.one_hot(probs.argmax(2), probs.shape[2]).double().mean(0)
    return (votes + 1e-6 * mean).argmax(1)  # among equal votes the larger mean probability


def _counted(
    model: RandomClassifier,
    images: Tensor,
    ids: Tensor,
    picked: Tensor,
    settings: CertifySettings,
    sigma: float,
) -> tuple[list[Tally], list[float]]:
    """Count draws of the `certify` stream until each image is decided.

    Returns:
        The tally of each image, and the error of the look at which it stopped.
    """
    looks = Looks(settings.draws, settings.alpha, sigma, settings.radii, settings.rule, settings.early)
    tallies = [Tally(0, 0.0, 0.0)] * len(ids)
    errors = [0.0] * len(ids)
    active, start = list(range(len(ids))), 0
    for look, end in enumerate(looks.ends):
        draws = Draws(settings.seed, Stream.CERTIFY, range(start, end))
        sums = _sums(model, images[active], ids[active], picked[active], draws, settings)
        for place, (total, squares) in zip(active, sums, strict=True):
            old = tallies[place]
            tallies[place] = Tally(end, old.total + total, old.squares + squares)
            errors[place] = looks.error(look)
        active = [place for place in active if not looks.decided(tallies[place], look)]
        start = end
        if not active:
            break
    return tallies, errors


def _sums(
    model: RandomClassifier,
    images: Tensor,
    ids: Tensor,
    picked: Tensor,
    draws: Draws,
    settings: CertifySettings,
) -> Sequence[tuple[float, float]]:
    """Sum votes or probabilities of the picked class, and their squares, over draws: a pair per image."""
    total = torch.zeros(2, len(ids), dtype=torch.float64)
    for piece in draws.chunks(max(1, settings.rows // len(ids))):
        log_probs = _checked(log_probabilities(model, images, ids, piece, rows=settings.rows), ids).cpu()
        if settings.rule == "vote":
            values = (log_probs.argmax(2) == picked).double()
        else:
            values = log_probs.double().exp().gather(2, picked.expand(len(piece), -1)[..., None])[..., 0]
        total += torch.stack((values.sum(0), values.square().sum(0)))
    return [(float(first), float(second)) for first, second in total.T]


def _checked(log_probs: Tensor, ids: Tensor) -> Tensor:
    """Return log-probabilities if all are finite."""
    sound = log_probs.isfinite().all(2).all(0)
    if not bool(sound.all()):
        raise InvalidEvaluationError(f"logits are not finite: image {int(ids[~sound.cpu()][0])}")
    return log_probs
