"""The base of all perturbations: one final entry point that validates, batches and verifies.

A subclass writes `_perturb` for one batch and can skip none of it (a template method, as in foolbox).
"""

import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError, BenchWarning, InvalidEvaluationError
from robustbench_sde.models.arithmetic import undisturbed
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.storage.schema import GRADIENT_SIGNS

#: Float rounding by which images may be outside of their ball; it is left as it is.
SLACK = 1e-6
#: Distance by which images may leave [0, 1] or their ball; up to it they are moved back, and that is said.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Batch:
    """A batch of images on the device of the model, with their labels and ids."""

    #: (B, C, H, W) float32 in [0, 1]
    images: Tensor
    #: (B,) int64, on the model's device
    labels: Tensor
    #: (B,) int64, on the CPU: keys of the noise
    ids: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def only(self, rows: Tensor) -> "Batch":
        """Select some of the images by position, (n,) int64 on the CPU."""
        here = rows.to(self.images.device)
        return Batch(self.images[here], self.labels[here], self.ids[rows])


@dataclass(frozen=True)
class Perturbed:
    """Perturbed images with their cost; whether they fool the model is not part of it."""

    #: (B, C, H, W) float32 in [0, 1]
    images: Tensor
    #: (B,) int64 on the CPU: forward passes of one draw each that an image took
    forward_passes: Tensor
    #: (B,) int64 on the CPU: backward passes of one draw each
    backward_passes: Tensor
    #: (B,) int64 on the CPU: draws that an attack averaged in each of its looks at the model
    eot_draws: Tensor
    #: what made each image, where a perturbation chooses among several; empty: the perturbation itself
    chosen: tuple[str, ...] = ()
    #: wall time that all images took together
    seconds: float = 0.0
    #: (B, 4) float64 on the CPU: share of an image's gradients with each of `GRADIENT_SIGNS`, NaN where it
    #: had no gradient; None: nobody counted
    gradients: Tensor | None = None
    #: (B,) int64 on the CPU: class that a targeted attack wanted of each image, its label where the image is
    #: of that class already; None: the attack was not targeted
    targets: Tensor | None = None
    #: (B,) margins by which an attack chose each image among several points; None: it had one point each
    margins: Tensor | None = None

    @property
    def counted(self) -> Tensor:
        """`gradients`, or NaN (B, 4) if gradients were not counted."""
        if self.gradients is not None:
            return self.gradients
        return torch.full((len(self.images), len(GRADIENT_SIGNS)), math.nan, dtype=torch.float64)

    @classmethod
    def free(cls, images: Tensor, chosen: tuple[str, ...] = ()) -> "Perturbed":
        """Make the result for images that were made without evaluating the model."""
        none = torch.zeros(len(images), dtype=torch.int64)
        return cls(images, none, none, none, chosen)


class Perturbation(ABC):
    """A map from images to perturbed images."""

    name: ClassVar[str]
    #: raised when its numbers change, so that cells stored before are not taken for new ones
    revision: ClassVar[int] = 1
    #: False for a row that keeps the images as they are: the clean one, and the control
    changes_images: ClassVar[bool] = True

    @final
    def __call__(
        self,
        model: RandomClassifier,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        *,
        seed: int = 0,
        rows: int = 256,
        progress: Progress = SILENT,
    ) -> Perturbed:
        """Perturb images in batches and verify the result.

        Args:
            model: classifier to attack; ignored by perturbations that do not use a model.
            images: (n, C, H, W) float32 in [0, 1], on any device.
            labels: (n,) int64 true classes.
            ids: (n,) int64 image ids, the keys of all randomness.
            seed: seed of all randomness.
            rows: largest number of rows (images x draws) in one pass.
            progress: receives the number of finished images.

        Returns:
            The images and the passes they took, on the CPU.

        Raises:
            BenchError: an argument does not fit the model.
            InvalidEvaluationError: a perturbed image is not finite, not in [0, 1], outside its ball, or
                of another shape or dtype. Up to `TOLERANCE` outside, it is moved back, with a BenchWarning.
        """
        started = time.perf_counter()
        _check_arguments(model, images, labels, ids)
        parts, moved = [], 0
        size = self.images_per_batch(rows, model.stochastic)
        for piece in (slice(start, start + size) for start in range(0, len(images), size)):
            with undisturbed(model.device):
                here = images[piece].clone().to(model.device)
                batch = Batch(here, labels[piece].to(model.device), ids[piece].cpu())
                perturbed = self._perturb(model, batch, seed=seed, rows=rows)
            verify(batch.images, perturbed.images, batch.ids, self.budget)
            inside = move_inside(batch.images, perturbed.images, self.budget)
            moved += int((inside != perturbed.images).flatten(1).any(1).sum())
            perturbed = replace(perturbed, images=inside)
            parts.append(replace(perturbed, chosen=perturbed.chosen or (self.label,) * len(batch)))
            progress.advance(len(batch))
        if moved:
            warnings.warn(
                f"{self.label}: {moved} of {len(images)} images left [0, 1] or their ball by at most "
                f"{TOLERANCE:g} and were moved back",
                BenchWarning,
                stacklevel=2,
            )
        return Perturbed(
            torch.cat([part.images.cpu() for part in parts]),
            torch.cat([part.forward_passes for part in parts]),
            torch.cat([part.backward_passes for part in parts]),
            torch.cat([part.eot_draws for part in parts]),
            tuple(name for part in parts for name in part.chosen),
            time.perf_counter() - started,
            gradients=torch.cat([part.counted for part in parts]),
            targets=joined_targets(parts),
        )

    @property
    def settings(self) -> dict[str, str | float | None]:
        """Return the parameters by name whose values are texts, numbers or None."""
        if not is_dataclass(self):
            return {}
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, str | float | int | None)}

    def describe(self) -> dict[str, str | float]:
        """Return the columns of the summary that describe the perturbation."""
        return {"perturbation": self.label, "norm": "", "eps": math.nan, "severity": math.nan}

    @property
    def attack_steps(self) -> float:
        """Number of steps or queries; NaN for perturbations without steps."""
        return math.nan

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name

    @property
    def has_targets(self) -> bool:
        """Whether it is after one class of each image, which its records name (`Perturbed.targets`)."""
        return False

    def check_classes(self, classes: int) -> None:  # noqa: B027
        """Check what it says of classes; `classes` is the number of those of a model.

        Raises:
            BenchError: it names a class that the model does not have.
        """

    def scored_at_random(self, stochastic: bool) -> bool:
        """Whether scoring draws noise, for a model that does (`stochastic`) or does not."""
        return stochastic

    def defender(self, model: RandomClassifier) -> RandomClassifier:
        """Return the classifier that scores: `model`, unless a diagnostic changes the defence."""
        return model

    @property
    def random_points(self) -> int:
        """Number of random points of each image at which `defender` is scored; 0: at the perturbed images."""
        return 0

    @property
    def budget(self) -> Ball | None:
        """Ball in which every perturbed image must be; None if there is no limit."""
        return None

    @property
    def adaptive(self) -> bool:
        """Whether it looks at a model through a solver of its own that chooses its steps."""
        return False

    @property
    def provider(self) -> str:
        """Package and version of the plug-in that defines it; empty for built-in perturbations."""
        return ""

    def files(self) -> tuple[Path, ...]:
        """Files that the perturbation reads while it runs."""
        return ()

    def moved(self, places: Mapping[Path, Path]) -> Self:
        """Copy it, reading each of its `files` at another place."""
        return self

    def images_per_batch(self, rows: int, stochastic: bool) -> int:
        """Return the number of images in a batch of at most `rows` rows (images x draws)."""
        return max(1, rows // self.draws_per_pass(stochastic))

    def draws_per_pass(self, stochastic: bool) -> int:
        """Return the number of draws in one pass, which determines how many images fit into a batch."""
        return 1

    @abstractmethod
    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        """Perturb one batch, already on the device of the model."""


@dataclass(frozen=True)
class Clean(Perturbation):
    """The unchanged images."""

    name = "clean"
    changes_images = False

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        return Perturbed.free(batch.images, ("",) * len(batch))


def joined_targets(parts: Sequence[Perturbed]) -> Tensor | None:
    """Return the targets of all parts one after the other; None if an attack was not targeted."""
    found = [part.targets for part in parts if part.targets is not None]
    return torch.cat(found) if found else None


def verify(original: Tensor, perturbed: Tensor, ids: Tensor, budget: Ball | None) -> None:
    """Raise InvalidEvaluationError unless `perturbed` is what a perturbation of `original` may be.

    Args:
        original: (B, C, H, W) float in [0, 1].
        perturbed: perturbed images of any origin.
        ids: (B,) to name the first offender.
        budget: ball around each original; None for no limit.
    """
    if perturbed.shape != original.shape or perturbed.dtype != original.dtype:
        raise InvalidEvaluationError(
            f"perturbed images are {tuple(perturbed.shape)} {perturbed.dtype}, "
            f"the originals {tuple(original.shape)} {original.dtype}"
        )
    flat = perturbed.flatten(1)
    outside = torch.maximum(-flat.amin(1), flat.amax(1) - 1)
    faults = {
        "is not finite": (~flat.isfinite().all(1), outside),
        "leaves [0, 1]": (outside > TOLERANCE, outside),
    }
    if budget is not None:
        beyond = budget.norm.size(perturbed - original) - budget.eps
        faults[f"leaves the ball {budget}"] = beyond > TOLERANCE, beyond
    for fault, (where, excess) in faults.items():
        if where.any():
            first = int(where.int().argmax())
            by = f" by {float(excess[first]):.2g}" if bool(excess[first].isfinite()) else ""
            hint = _rounding_hint(perturbed[where], budget) if "ball" in fault else ""
            raise InvalidEvaluationError(
                f"{int(where.sum())} of {len(ids)} perturbed images are invalid: image {int(ids[first])} "
                f"{fault}{by}{hint}"
            )


def move_inside(original: Tensor, perturbed: Tensor, budget: Ball | None) -> Tensor:
    """Move images that `verify` accepts into [0, 1], and those more than `SLACK` outside into their ball.

    All images are (B, C, H, W); those inside come back unchanged, to the bit.
    """
    if budget is not None:
        delta = perturbed - original
        beyond = budget.norm.size(delta) > budget.eps + SLACK
        if beyond.any():
            projected = original + budget.norm.project(delta, budget.eps)
            perturbed = torch.where(beyond.view(-1, 1, 1, 1), projected, perturbed)
    return perturbed.clamp(0, 1)


def _rounding_hint(perturbed: Tensor, budget: Ball | None) -> str:
    """Say so if images look rounded to 8 bits in a ball with no whole number of grey levels."""
    if budget is None or budget.norm.name != "linf":
        return ""
    levels, whole = 255 * budget.eps, 255 * perturbed
    if float((whole - whole.round()).abs().max()) > 1e-3 or abs(levels - round(levels)) < 1e-3:
        return ""
    return (
        f"; the images look rounded to 8 bits, and eps is {levels:.4g} grey levels: round towards the "
        f"originals, or claim {math.ceil(levels)}/255"
    )


def _check_arguments(model: RandomClassifier, images: Tensor, labels: Tensor, ids: Tensor) -> None:
    if not len(images):
        raise BenchError("there are no images to perturb")
    if tuple(images.shape[1:]) != model.image_shape:
        raise BenchError(
            f"the model takes images of shape {'x'.join(map(str, model.image_shape))} "
            f"(channels x height x width), these are {'x'.join(map(str, images.shape[1:]))}"
        )
    if not len(images) == len(labels) == len(ids):
        raise BenchError(f"{len(images)} images, {len(labels)} labels and {len(ids)} ids do not match")
    if images.dtype != torch.float32 or not bool(((images >= 0) & (images <= 1)).all()):
        raise BenchError("images must be float32 in [0, 1]")
    if int(labels.min()) < 0 or int(labels.max()) >= model.classes:
        raise BenchError(f"labels must be in 0..{model.classes - 1}, the classes of the model")
    if int(ids.min()) < 0:
        raise BenchError("image ids must not be negative")
