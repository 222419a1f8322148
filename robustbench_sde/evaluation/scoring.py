"""Scoring: decide the class of images by averaging over keyed draws, and say how sure that is."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.choices import DecisionRule
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError, unknown_name
from robustbench_sde.evaluation import sequential
from robustbench_sde.evaluation.statistics import share_interval
from robustbench_sde.models.probabilities import log_probabilities, mean_error, split_label
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.sde.draws import Draws, Stream

#: mean-prob: argmax of the mean softmax; vote: most frequent argmax; single: argmax of the first draw
RULES: tuple[str, ...] = get_args(DecisionRule)
#: images that an error names, at most
_NAMED = 10


@dataclass(frozen=True)
class ScoreSettings:
    """Draws, decision rule and seed of scoring."""

    #: draws for an image; `"auto"`: at most 256, and as few as decide the same (`evaluation.sequential`)
    draws: int | Literal["auto"] = 32
    rule: DecisionRule = "mean-prob"
    #: seed of all randomness; a signed 64-bit integer, the type of the table column
    seed: int = 0
    #: rows (images x draws) in one forward pass: decides memory and speed, and changes no number
    rows: int = 256
    #: draws, averaged by the rule, that answer one submission of an image (`evaluation.tries`)
    try_draws: int = 1

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown_name("decision rule", self.rule, RULES)
        if self.draws == "auto" and self.rule == "single":
            raise BenchError("`score_draws` is auto; the rule single decides by one draw and needs no more")
        sizes = {"score_draws": self.most_draws, "batch_size": self.rows, "try_draws": self.try_draws}
        for name, value in sizes.items():
            if value < 1:
                raise BenchError(f"`{name}` is {value}; it must be at least 1")
        if self.try_draws > 1 and (self.draws == "auto" or self.rule == "single"):
            what = "`score_draws` is auto" if self.draws == "auto" else "the rule is single"
            raise BenchError(
                f"`try_draws` is {self.try_draws} and {what}; several draws an answer need a fixed "
                "number of score draws, and the rule mean-prob or vote"
            )
        if self.try_draws > self.most_draws:
            raise BenchError(f"`try_draws` is {self.try_draws}, more than the {self.most_draws} score draws")
        if not -(2**63) <= self.seed < 2**63:
            raise BenchError(f"`seed` is {self.seed}; it must be a whole number of 64 bits")

    @property
    def most_draws(self) -> int:
        """Largest number of draws of an image."""
        return sequential.MOST if self.draws == "auto" else self.draws

    def at_points(self, points: int) -> "ScoreSettings":
        """Return the settings for so many random points of each image, a draw at each; 0 points: these."""
        return replace(self, draws=points, try_draws=1) if points else self

    @property
    def stages(self) -> list[range]:
        """Draw indices that are computed together; between two groups images may be decided."""
        return sequential.stages() if self.draws == "auto" else [range(self.draws)]

    def images_per_batch(self, stochastic: bool) -> int:
        """Return how many images go into a pass: few with all their draws, as the stem runs once an image."""
        return max(1, self.rows // len(self.stages[0])) if stochastic else self.rows


def score_records(
    model: RandomClassifier,
    data: ImageDataset,
    images: Tensor,
    settings: ScoreSettings,
    *,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Return one row per image, by the `RECORDS` schema without the cost columns.

    Args:
        model: classifier.
        data: labels, ids and the clean images that distances are measured from.
        images: (n, C, H, W) float32 in [0, 1], perturbations of `data`.
        settings: draws, rule and seed.
        progress: receives the number of finished images.

    Raises:
        InvalidEvaluationError: logits are not finite; names the images.
    """
    size = settings.images_per_batch(model.stochastic)
    parts: list[pd.DataFrame] = []
    broken: list[int] = []
    for start in range(0, len(data), size):
        here = torch.arange(start, min(start + size, len(data)))
        found, not_finite = _score_batch(model, data, images, here, settings)
        parts += found
        broken += data.ids[not_finite].tolist()
        progress.advance(len(here))
    if broken:
        raise InvalidEvaluationError(
            f"logits of {len(broken)} of {len(data)} images are not finite: "
            f"image {', '.join(map(str, broken[:_NAMED]))}{', ...' * (len(broken) > _NAMED)}"
        )
    return pd.concat(parts).sort_index().reset_index(drop=True)


def _score_batch(
    model: RandomClassifier, data: ImageDataset, images: Tensor, rows: Tensor, settings: ScoreSettings
) -> tuple[list[pd.DataFrame], Tensor]:
    """Return the records of the images at positions `rows`, one table for each number of draws.

    The second value holds the positions of images with logits that are not finite; they have no record.
    """
    parts, seen, broken = [], torch.empty(0, len(rows), model.classes), rows[:0]
    for stage in settings.stages:
        draws = Draws(settings.seed, Stream.SCORE, stage)
        here = images[rows].to(model.device)
        log_probs = log_probabilities(model, here, data.ids[rows], draws, rows=settings.rows).cpu()
        seen = torch.cat((seen, log_probs))
        finite = log_probs.isfinite().all(2).all(0)
        if not finite.all():
            broken = torch.cat((broken, rows[~finite]))
            rows, seen = rows[finite], seen[:, finite]
        done = torch.ones(len(rows), dtype=torch.bool)
        if stage != settings.stages[-1] and model.stochastic:
            done = sequential.decided(_per_draw(seen.exp(), settings.rule))
        if done.any():
            parts.append(_records(model, data, images, rows[done], seen[:, done], settings))
        rows, seen = rows[~done], seen[:, ~done]
        if not len(rows):
            break
    return parts, broken


def _records(
    model: RandomClassifier,
    data: ImageDataset,
    images: Tensor,
    rows: Tensor,
    log_probs: Tensor,
    settings: ScoreSettings,
) -> pd.DataFrame:
    """Return the records of the images at positions `rows`, from log-probabilities (draws, B, classes)."""
    ids, labels = data.ids[rows], data.labels[rows]
    probs = log_probs.exp()
    mean = probs.mean(0)
    per_draw = _per_draw(probs, settings.rule)
    statistic = per_draw.mean(0)
    prediction = _decision(statistic, mean, settings.rule)
    share = (probs.argmax(2) == labels).double().mean(0)
    paired = model.draws_in_pairs
    low, high = share_interval(share.numpy(), len(probs), exact=not model.stochastic, paired=paired)
    answers = _answers(probs, labels, settings) if model.stochastic else (prediction == labels)[None]
    split = torch.full_like(share, math.nan)
    if model.stochastic and paired and settings.try_draws == 1:
        split = (answers[0 : len(answers) // 2 * 2 : 2] ^ answers[1::2]).double().sum(0)
    at_label, largest, runner_up = split_label(statistic, labels)
    delta = images[rows].cpu() - to_float(data.images[rows])
    columns = {
        "image_id": ids,
        "label": labels,
        "prediction": prediction,
        "correct": prediction == labels,
        "share_correct": share,
        "share_low": torch.from_numpy(low),
        "share_high": torch.from_numpy(high),
        "tries": torch.full_like(share, len(answers)),
        "tries_right": answers.double().sum(0),
        "tries_split": split,
        "label_probability": split_label(mean, labels)[0].double(),
        "margin": (at_label - largest).double(),
        "margin_error": _standard_error(per_draw, labels, runner_up, model.stochastic, paired=paired),
        "score_draws": torch.full_like(ids, len(log_probs)),
        "confidence": mean.amax(1).double(),
        "brier": (mean - F.one_hot(labels, model.classes)).square().sum(1).double(),
        **{name: norm.size(delta).double() for name, norm in NORMS.items()},
    }
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()}, index=rows.numpy())


def _decision(statistic: Tensor, mean: Tensor, rule: DecisionRule) -> Tensor:
    """Return the class of the largest statistic; among equal votes the larger mean probability decides."""
    return (statistic + 1e-6 * mean).argmax(-1) if rule == "vote" else statistic.argmax(-1)


def _answers(probs: Tensor, labels: Tensor, settings: ScoreSettings) -> Tensor:
    """Say which submissions the rule over `try_draws` draws each answers rightly: (submissions, B) bool.

    A block of several draws begins at an even one, so that blocks are independent: of an odd number of them,
    the draw after each block is left out.

    Args:
        probs: (draws, B, classes); draws beyond the last whole block are left out.
        labels: (B,) true classes.
        settings: rule and draws of an answer.
    """
    size = settings.try_draws
    blocks = probs.unfold(0, size, size + size % 2 if size > 1 else 1).movedim(-1, 1)
    tries = len(blocks)
    rule = "vote" if size == 1 else settings.rule  # one draw: any rule takes its class
    values = _per_draw(blocks.flatten(0, 1), rule).unflatten(0, (tries, size)).mean(1)
    return _decision(values, blocks.mean(1), rule) == labels


def _per_draw(probs: Tensor, rule: DecisionRule) -> Tensor:
    """Return the statistic of each draw, (draws, B, classes), whose mean over draws decides."""
    if rule == "mean-prob":
        return probs
    votes = F.one_hot(probs.argmax(2), probs.shape[2]).float()
    return votes if rule == "vote" else votes[:1]


def _standard_error(
    per_draw: Tensor, labels: Tensor, runner_up: Tensor, stochastic: bool, *, paired: bool
) -> Tensor:
    """Return the standard error over draws of the margin between label and runner-up: (B,)."""
    count = len(per_draw)
    if not stochastic:
        return torch.zeros(len(labels), dtype=torch.float64)
    pair = per_draw.gather(2, torch.stack((labels, runner_up), 1).expand(count, -1, -1))
    return mean_error((pair[..., 0] - pair[..., 1]).double(), paired=paired)
