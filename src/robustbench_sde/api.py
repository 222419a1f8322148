"""The Python interface: what the commands do, on models and data in memory."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from torch import Tensor, nn

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchWarning
from robustbench_sde.evaluation.cell import CellResult, check_control, evaluate
from robustbench_sde.evaluation.scoring import Rule, ScoreSettings
from robustbench_sde.models.adapter import Normalisation
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.examine import examine
from robustbench_sde.models.plain_module import PlainModule
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks import make_attack
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.given import Given
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.results.schema import SUMMARY, table


@dataclass(frozen=True)
class Result:
    """Tables and images of an evaluation."""

    #: one row per perturbation (docs/tables.md)
    summary: pd.DataFrame
    #: one row per image of the last perturbation
    records: pd.DataFrame
    #: (n, C, H, W) float32 in [0, 1]: the last perturbation's images
    images: Tensor


def as_classifier(
    module: nn.Module,
    data: ImageDataset,
    *,
    name: str = "",
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
) -> RandomClassifier:
    """Anybody's network, made ready to be evaluated; what is suspicious about it is a warning.

    Whether it is deterministic, takes its noise as an argument, or has noise of its own is found out on the
    first images of `data` (docs/your-model.md).

    Args:
        module: (B, C, H, W) floats to logits (B, classes), where it is; its mode is left alone.
        data: the images that it is for.
        name: what tables call it; the name of its class.
        mean: of the normalisation that it expects of images in [0, 1], one number or one a channel.
        std: its deviation, above 0, as many numbers.

    Returns:
        What `attack` and `score` take; its `noise` is `none`, `keyed` or `opaque`.

    Raises:
        BenchError: it cannot be evaluated as it is; says why.
    """
    normalisation = Normalisation(*(_numbers(values) for values in (mean, std)))
    interface, notes = examine(module, data, name=name or type(module).__name__, normalisation=normalisation)
    for note in notes:
        warnings.warn(note, BenchWarning, stacklevel=2)
    return interface.around(module)


def as_module(model: RandomClassifier, draws: int = 16, *, fixed: bool = False, seed: int = 0) -> PlainModule:
    """A classifier as a plain `nn.Module`, for torchattacks, foolbox, ART or AutoAttack.

    It returns the log of the mean probability over `draws` fresh draws, or always the same where `fixed`.
    Score the images that an attack has made of it; believe nothing else that a library says about them
    (`PlainModule`).

    Args:
        model: what is attacked, from `load_checkpoint` or `as_classifier`.
        draws: averaged in every call, at least 1; a deterministic model needs one.
        fixed: the same draws in every call, instead of the next ones.
        seed: of the draws, which are of the `attack` stream: none of them scores.

    Returns:
        A module of images (B, C, H, W) float in [0, 1] to log-probabilities (B, classes).
    """
    return PlainModule(model, draws, fixed=fixed, seed=seed)


def attack(
    model: RandomClassifier | nn.Module,
    data: ImageDataset,
    attack: str = "pgd",
    *,
    score_draws: int | Literal["auto"] = 32,
    rule: Rule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress = SILENT,
    **parameters: Any,
) -> Result:
    """Attack images and score them on draws that the attack never saw.

    Args:
        model: a classifier, from `load_checkpoint` say, or a network of your own (`as_classifier`).
        data: what to attack, from `load_dataset`; of the shape and classes that the model takes.
        attack: its name (`sde-bench list attacks`).
        score_draws: draws averaged to decide an image's class; `"auto"`: as few, up to 256, as decide alike.
        rule: `mean-prob` (argmax of the mean softmax), `vote` (most frequent argmax) or `single`.
        seed: of everything random, any integer.
        batch_size: folded rows (images x draws) in one pass; changes no number.
        progress: told of every finished image.
        **parameters: fields of the attack's class: norm (`linf`, `l2`), eps (in units of images in [0, 1]),
            steps, eot_draws (draws averaged in every gradient), restarts, ...

    Returns:
        The clean row, the eps = 0 control and the attack; records and images of the attack.

    Raises:
        BenchError: an argument is wrong.
        InvalidEvaluationError: the control differs from clean, or a perturbed image is invalid.

    Source: PGD is that of Madry et al., ICLR 2018; expectation over transformation that of Athalye et al.,
    ICML 2018; docs/protocol.md has what is reported, and why.
    """
    settings = ScoreSettings(score_draws, rule, seed, batch_size)
    chosen, model = make_attack(attack, **parameters), _ready(model, data)
    clean, control, attacked = (
        evaluate(model, data, perturbation, settings, progress=progress)
        for perturbation in (Clean(), Control(chosen), chosen)
    )
    check_control(clean.records, control.records)
    return _result(clean, control, attacked)


def score(
    model: RandomClassifier | nn.Module,
    data: ImageDataset,
    images: Tensor | None = None,
    *,
    norm: str = "",
    eps: float | None = None,
    score_draws: int | Literal["auto"] = 32,
    rule: Rule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress = SILENT,
) -> Result:
    """Score anybody's perturbed images, or the clean ones.

    Args:
        model: as in `attack`.
        data: labels, ids, and the originals that distances are measured from.
        images: (n, C, H, W) floats in [0, 1] or uint8, in the order of `data`; None scores the originals.
        norm: `linf` or `l2`, of the ball that they are said to stay in.
        eps: its radius, in units of images in [0, 1]; None for no ball. That they stay in it is verified.
        score_draws: as in `attack`.
        rule: as in `attack`.
        seed: as in `attack`.
        batch_size: as in `attack`.
        progress: as in `attack`.

    Returns:
        One row, its records, and the images as they were scored.

    Raises:
        BenchError: images and data do not match.
        InvalidEvaluationError: an image is not finite, not in [0, 1], or not in the ball.
    """
    settings, model = ScoreSettings(score_draws, rule, seed, batch_size), _ready(model, data)
    if images is None:
        return _result(evaluate(model, data, Clean(), settings, progress=progress))
    given = Given.of(images, data, norm=norm, eps=eps)
    return _result(evaluate(model, data, given, settings, progress=progress))


def _ready(model: RandomClassifier | nn.Module, data: ImageDataset) -> RandomClassifier:
    foreign = isinstance(model, nn.Module) and not isinstance(model, Classifier)
    return as_classifier(model, data) if foreign else model  # type: ignore[arg-type,return-value]


def _numbers(values: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(values) if isinstance(values, Sequence) else (float(values),)


def _result(*cells: CellResult) -> Result:
    summary = table([cell.row for cell in cells], SUMMARY)
    return Result(summary, cells[-1].records, cells[-1].images)
