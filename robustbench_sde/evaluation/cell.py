"""One checkpoint under one perturbation setting: perturb, verify, score."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.numbers import numbers_of, suspicion
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.base import Perturbation, Perturbed
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.storage.schema import GRADIENT_SIGNS, RECORDS, SUMMARY, empty_table, table


@dataclass(frozen=True)
class CellResult:
    """The result of a cell; a cell that failed or is invalid has no records and no images."""

    #: row of the summary (`SUMMARY`); `status` is ok, or says why there are no numbers (NaN) or suspect ones
    row: dict[str, Any]
    #: one row per image (`RECORDS`)
    records: pd.DataFrame
    #: (n, C, H, W) float32 perturbed images: all, or the first few where an engine was not asked to keep them
    images: Tensor
    #: versions, device, threads and batch size that it was made with
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(cls, row: dict[str, Any], status: str) -> "CellResult":
        """Make the result of a cell without numbers from its blank row; `status` says why it has none."""
        return cls(row | {"status": status}, empty_table(RECORDS), torch.empty(0, 0, 0, 0))

    @property
    def ok(self) -> bool:
        """Whether there are records and numbers."""
        return not self.records.empty


def evaluate(
    model: RandomClassifier,
    data: ImageDataset,
    perturbation: Perturbation,
    settings: ScoreSettings,
    *,
    progress: Progress = SILENT,
) -> CellResult:
    """Perturb all images of `data`, verify them, score them on draws that the perturbation never saw.

    Raises:
        BenchError: the data do not fit the model.
        InvalidEvaluationError: a perturbed image is not valid, or logits are not finite.
    """
    perturbed = perturb(model, data, perturbation, seed=settings.seed, rows=settings.rows, progress=progress)
    return judge(model, data, perturbation, perturbed, settings)


def perturb(
    model: RandomClassifier,
    data: ImageDataset,
    perturbation: Perturbation,
    *,
    seed: int,
    rows: int,
    progress: Progress = SILENT,
) -> Perturbed:
    """Perturb all images of `data` and verify them: the first half of `evaluate`.

    The images can be scored in several ways.
    """
    return perturbation(
        model, to_float(data.images), data.labels, data.ids, seed=seed, rows=rows, progress=progress
    )


def judge(
    model: RandomClassifier,
    data: ImageDataset,
    perturbation: Perturbation,
    perturbed: Perturbed,
    settings: ScoreSettings,
    *,
    progress: Progress = SILENT,
) -> CellResult:
    """Score the images from `perturb` with the seed of `settings`: the second half of `evaluate`."""
    started = time.perf_counter()
    model = perturbation.defender(model)
    settings = settings.at_points(perturbation.random_points)
    clean = to_float(data.images) if perturbation.random_points else None
    images = perturbed.images if clean is None else clean
    records = score_records(model, data, images, settings, progress=progress)
    if clean is not None:  # sizes of the point that stands for all of them
        for name, norm in NORMS.items():
            records[name] = norm.size(perturbed.images - clean).double().numpy()
    records["forward_passes"] = perturbed.forward_passes.numpy()
    records["backward_passes"] = perturbed.backward_passes.numpy()
    records["eot_draws"] = perturbed.eot_draws.numpy()
    for place, name in enumerate(GRADIENT_SIGNS):
        records[name] = perturbed.counted[:, place].numpy()
    records["target"] = math.nan if perturbed.targets is None else perturbed.targets.double().numpy()
    records["chosen"] = list(perturbed.chosen)
    records = table(records, RECORDS)
    row = blank_row(model, data, perturbation, settings)
    row |= numbers_of(records, str(row["norm"]), float(row["eps"]), samples=perturbation.random_points)
    row["status"] = suspicion(row) or "ok"
    row["seconds"] = perturbed.seconds + time.perf_counter() - started
    return CellResult(row, records, perturbed.images)


def blank_row(
    model: RandomClassifier | None, data: ImageDataset, perturbation: Perturbation, settings: ScoreSettings
) -> dict[str, Any]:
    """Make a summary row that says what is asked and has no numbers yet (NaN).

    `model` is None where none could be loaded.
    """
    known: dict[str, Any] = {
        "checkpoint": model.name if model else "",
        "dataset": data.name,
        "noise": model.noise if model else "",
        "sigma": model.sigma if model else math.nan,
        "batch_dependence": model.batch_dependence if model else math.nan,
        "solver": model.solver if model else "",
        "solver_steps": model.steps if model else 0,
        **perturbation.describe(),
        "attack_steps": perturbation.attack_steps,
        "images": len(data),
        "score_draws": settings.most_draws if model is None or model.stochastic else 1,
        "rule": settings.rule,
        "try_draws": settings.try_draws,
        "samples": perturbation.random_points,
        "seed": settings.seed,
        "status": "ok",
        "fingerprint": data.fingerprint,
        "cell": "",
    }
    return {column.name: known.get(column.name, math.nan) for column in SUMMARY}


def check_control(clean: pd.DataFrame, control: pd.DataFrame) -> None:
    """Raise InvalidEvaluationError unless the eps = 0 control equals the clean records (docs/protocol.md).

    With keyed noise and equal batches nothing may differ but the cost and what made the images.
    """
    cost = ("forward_passes", "backward_passes", "eot_draws", "chosen", "target", *GRADIENT_SIGNS)
    compared = [column.name for column in RECORDS if column.name not in cost]
    same = (clean[compared] == control[compared]) | (clean[compared].isna() & control[compared].isna())
    for name in (column.name for column in RECORDS if column.later and column.name in compared):
        same[name] |= clean[name].isna() | control[name].isna()  # stored by a version that did not write it
    different = ~same.all(axis=1)
    if different.any():
        first = clean["image_id"][different].iloc[0]
        raise InvalidEvaluationError(
            f"the eps = 0 control differs from clean on {int(different.sum())} of {len(clean)} images "
            f"(first: image {first}): the model's noise is not a function of image and draw"
        )
