"""Scoring: decide the class of images by averaging over keyed draws, and say how sure that is."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError, unknown_name
from robustbench_sde.evaluation.statistics import (
    clustered,
    expected_calibration_error,
    over_noise,
    undecided,
    wilson,
)
from robustbench_sde.models.probabilities import log_probabilities, split_label
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.sde.draws import Draws, Stream

#: mean-prob: argmax of the mean softmax; vote: most frequent argmax; single: argmax of the first draw
Rule = Literal["mean-prob", "vote", "single"]
RULES: tuple[str, ...] = get_args(Rule)


@dataclass(frozen=True)
class ScoreSettings:
    """How images are scored."""

    draws: int = 32
    rule: Rule = "mean-prob"
    seed: int = 0
    #: folded rows (images x draws) in one forward pass: decides memory and speed, no number
    rows: int = 256

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown_name("decision rule", self.rule, RULES)
        for name, value in (("score_draws", self.draws), ("batch_size", self.rows)):
            if value < 1:
                raise BenchError(f"{name} is {value}; it must be at least 1")

    def images_per_batch(self, stochastic: bool) -> int:
        """Few images with all their draws in a pass: the stem and the first drift run once per image."""
        return max(1, self.rows // self.draws) if stochastic else self.rows


def score_records(
    model: RandomClassifier,
    data: ImageDataset,
    images: Tensor,
    settings: ScoreSettings,
    *,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """One row per image, by the `RECORDS` schema less the cost columns.

    Args:
        model: the classifier.
        data: labels, ids and the clean images that the distances are measured from.
        images: (n, C, H, W) float32 in [0, 1], perturbations of `data`.
        settings: draws, rule and seed.
        progress: told of every finished image.

    Raises:
        InvalidEvaluationError: logits are not finite; names the first image.
    """
    size = settings.images_per_batch(model.stochastic)
    parts = []
    for start in range(0, len(data), size):
        piece = slice(start, start + size)
        parts.append(_score_batch(model, data.images[piece], images[piece], data, piece, settings))
        progress.advance(len(parts[-1]))
    return pd.concat(parts, ignore_index=True)


def _score_batch(
    model: RandomClassifier,
    clean: Tensor,
    images: Tensor,
    data: ImageDataset,
    piece: slice,
    settings: ScoreSettings,
) -> pd.DataFrame:
    ids, labels = data.ids[piece], data.labels[piece]
    draws = Draws(settings.seed, Stream.SCORE, range(settings.draws))
    log_probs = log_probabilities(model, images.to(model.device), ids, draws, rows=settings.rows).cpu()
    finite = log_probs.isfinite().all(2).all(0)
    if not finite.all():
        raise InvalidEvaluationError(
            f"logits of {int((~finite).sum())} images are not finite; "
            f"the first is image {int(ids[~finite][0])}"
        )
    probs = log_probs.exp()
    mean = probs.mean(0)
    choices = probs.argmax(2)
    per_draw = {
        "mean-prob": probs,
        "vote": F.one_hot(choices, model.classes).float(),
        "single": F.one_hot(choices[:1], model.classes).float(),
    }[settings.rule]
    statistic = per_draw.mean(0)
    # among equal votes the larger mean probability decides
    prediction = (statistic + 1e-6 * mean).argmax(1) if settings.rule == "vote" else statistic.argmax(1)
    at_label, largest, runner_up = split_label(statistic, labels)
    delta = images.cpu() - to_float(clean)
    columns = {
        "image_id": ids,
        "label": labels,
        "prediction": prediction,
        "correct": prediction == labels,
        "share_correct": (choices == labels).double().mean(0),
        "label_probability": split_label(mean, labels)[0].double(),
        "margin": (at_label - largest).double(),
        "margin_error": _standard_error(per_draw, labels, runner_up, model.stochastic),
        "confidence": mean.amax(1).double(),
        "brier": (mean - F.one_hot(labels, model.classes)).square().sum(1).double(),
        **{name: norm.size(delta).double() for name, norm in NORMS.items()},
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def _standard_error(per_draw: Tensor, labels: Tensor, runner_up: Tensor, stochastic: bool) -> Tensor:
    """Standard error over draws of the margin at (label, runner-up): (B,)."""
    count = len(per_draw)
    if not stochastic:
        return torch.zeros(len(labels), dtype=torch.float64)
    if count == 1:
        return torch.full((len(labels),), math.nan, dtype=torch.float64)
    pair = per_draw.gather(2, torch.stack((labels, runner_up), 1).expand(count, -1, -1))
    return (pair[..., 0] - pair[..., 1]).double().std(0) / math.sqrt(count)


def summarise(records: pd.DataFrame) -> dict[str, float]:
    """The accuracy columns of the `SUMMARY` schema from the records of a cell."""
    correct = records["correct"].to_numpy(dtype=np.bool_)
    shares = records["share_correct"].to_numpy()
    accuracy = wilson(float(correct.mean()), len(records))
    noise = over_noise(records["margin"].to_numpy(), records["margin_error"].to_numpy(), correct)
    single = clustered(shares)
    return {
        "images": len(records),
        "accuracy": accuracy.estimate,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "noise_low": noise.low,
        "noise_high": noise.high,
        "single_draw_accuracy": single.estimate,
        "single_draw_low": single.low,
        "single_draw_high": single.high,
        "undecided": undecided(shares),
        "ece": expected_calibration_error(records["confidence"].to_numpy(), correct),
        "brier": float(records["brier"].mean()),
    }
