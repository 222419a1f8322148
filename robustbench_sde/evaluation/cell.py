"""One checkpoint under one perturbation setting: perturb, verify, score."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.distances import fooled_distances
from robustbench_sde.evaluation.random_points import random_numbers
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records, summarise
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.base import GRADIENT_SIGNS, Perturbation, Perturbed
from robustbench_sde.perturbations.norms import NORMS
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.storage.schema import RECORDS, SUMMARY, TARGETED, empty_table, table

#: Share of images with a gradient that is zero or not finite; above it a row is suspect.
SUSPECT_SHARE = 0.05


@dataclass(frozen=True)
class CellResult:
    """The result of a cell; a cell that failed or is invalid has no records and no images."""

    #: row of the summary (`SUMMARY`); `status` is ok, or says why there are no numbers (NaN) or suspect ones
    row: dict[str, Any]
    #: one row per image (`RECORDS`)
    records: pd.DataFrame
    #: (n, C, H, W) float32 perturbed images: all, or the first few where an engine was not asked to keep them
    images: Tensor

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


def numbers_of(records: pd.DataFrame, norm: str, eps: float, *, samples: int = 0) -> dict[str, float]:
    """Compute all columns of the summary that follow from the records of a cell.

    Args:
        records: one row per image (`RECORDS`).
        norm: `linf`, `l2` or empty, as in the cell's row.
        eps: its budget; NaN with a norm is a search for the smallest change, which has distances.
        samples: number of random points of each image that were scored; 0: other rows.
    """
    found = summarise(records)
    if norm and math.isnan(eps):
        found |= _distance_quartiles(records, norm)
    return found | {
        "forward_passes": float(records["forward_passes"].mean()),
        "backward_passes": float(records["backward_passes"].mean()),
        "eot_draws": float(records["eot_draws"].mean()),
        **{name: _share_with(records[name], eps) for name in GRADIENT_SIGNS},
        **_success(records, eps),
        **(random_numbers(records) if samples else {}),
    }


def _success(records: pd.DataFrame, eps: float) -> dict[str, float]:
    """Compute the columns of targeted attacks; NaN without a target, for the control, and without images."""
    aimed = records["target"].notna() & (records["target"] != records["label"])
    if not records["target"].notna().any() or eps == 0:
        return dict.fromkeys(TARGETED, math.nan)
    count = int(aimed.sum())
    found = {"target_images": float(count)}
    if not count:
        return dict.fromkeys(TARGETED, math.nan) | found
    reached = (records["prediction"] == records["target"])[aimed]
    share = wilson(float(reached.mean()), count)
    return found | {
        "target_success": share.estimate,
        "target_low": share.low,
        "target_high": share.high,
    }


def _share_with(shares: "pd.Series[float]", eps: float) -> float:
    """Compute the share of images with any such gradient; NaN without gradients, and for the control."""
    counted = shares.notna()
    return float((shares[counted] > 0).sum() / len(shares)) if counted.any() and eps != 0 else math.nan


def suspicion(row: Mapping[str, Any]) -> str:
    """Say why the numbers of a row could be wrong, as its status; empty if nothing speaks against them.

    A saturated loss is no reason: it is replaced (docs/protocol.md).
    """
    for name, what in (
        ("gradients_zero", "zero everywhere"),
        ("gradients_not_finite", "not finite"),
        ("gradients_misleading", "misleading (along them the loss falls)"),
    ):
        if row[name] > SUSPECT_SHARE:
            return (
                f"suspect: gradients of {row[name]:.0%} of the images are {what} at least once, so that the "
                "attack may be weaker than it looks; see `sde-bench audit`"
            )
    return ""


def has_numbers(status: str) -> bool:
    """Whether a row with this status has numbers: it is ok, or suspect, which `suspicion` says."""
    return status == "ok" or status.startswith("suspect:")


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


def _distance_quartiles(records: pd.DataFrame, norm: str) -> dict[str, float]:
    """Compute the quartiles of the distance at which images are fooled."""
    q25, median, q75 = np.quantile(fooled_distances(records, norm), (0.25, 0.5, 0.75), method="higher")
    return {"distance_q25": float(q25), "distance_median": float(median), "distance_q75": float(q75)}


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
