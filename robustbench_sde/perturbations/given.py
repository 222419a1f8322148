"""Images that somebody else has perturbed, to be judged as an attack of ours is."""

import hashlib
import math
import re
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.base import Batch, Perturbation, Perturbed
from robustbench_sde.perturbations.norms import Ball, get_norm
from robustbench_sde.storage.images import PerturbedImages


@dataclass(frozen=True, kw_only=True)
class Given(Perturbation):
    """Images as they are given; verified to be in the ball that is claimed, if one is."""

    name = "given"

    title: str = "given"
    #: hash of the images' bytes, so that other images are other work
    sha256: str
    #: norm of the claimed ball and of distances; empty if nothing is claimed
    norm: str = ""
    #: radius of the ball they are claimed to stay in; None if nothing is claimed
    eps: float | None = None
    #: (n, C, H, W) float32 in [0, 1]
    images: Tensor = field(repr=False, compare=False)
    #: (n,) int64, on the CPU
    ids: Tensor = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.eps is not None and (not self.norm or not 0 <= self.eps < math.inf):
            raise BenchError(f"`eps` is {self.eps}; it must be at least 0, and belong to a norm")
        if self.norm:
            get_norm(self.norm)
        largest = 1.0 if self.norm == "linf" else math.sqrt(self.images[0].numel())
        if self.eps is not None and self.eps > largest:
            raise BenchError(
                f"`eps` is {self.eps:g}, and images in [0, 1] are never farther apart than {largest:.4g} in "
                f"{self.norm}: eight grey levels are 8/255"
            )

    @classmethod
    def of(
        cls,
        images: Tensor,
        data: ImageDataset,
        *,
        title: str = "given",
        norm: str = "",
        eps: float | None = None,
    ) -> "Given":
        """Images of `data`, in its order: (n, C, H, W) or (n, H, W, C), floats in [0, 1] or uint8.

        Raises:
            BenchError: they do not match the data.
        """
        channels, height, width = data.image_shape
        if images.shape[1:] == (height, width, channels) != (channels, height, width):
            images = images.movedim(-1, 1)
        if tuple(images.shape) != tuple(data.images.shape):
            raise BenchError(f"images are {tuple(images.shape)}, the data {tuple(data.images.shape)}")
        floats = to_float(images) if images.dtype == torch.uint8 else images.detach().cpu().float()
        digest = hashlib.sha256(floats.contiguous().numpy().tobytes()).hexdigest()
        return cls(title=title, sha256=f"sha256:{digest}", norm=norm, eps=eps, images=floats, ids=data.ids)

    @classmethod
    def read(
        cls,
        found: PerturbedImages,
        data: ImageDataset,
        *,
        name: str,
        norm: str | None = None,
        eps: float | None = None,
    ) -> "Given":
        """Images from a file called `name`, in the ball that `norm` and `eps` say, or else the file.

        Tables call ours by what made them on which checkpoint, others by their file.

        Raises:
            BenchError: they do not match the data, or norm and eps no ball.
        """
        about = found.about
        ours = {"perturbation", "checkpoint"} <= about.keys()
        claimed = eps if eps is not None or norm is not None else about.get("eps")
        try:
            size = None if claimed is None else float(claimed)
        except (TypeError, ValueError, OverflowError):
            said = _readable(repr(claimed))
            raise BenchError(f"the file says that eps is {said}; it must be a number") from None
        return cls.of(
            torch.from_numpy(found.images),
            data,
            title=_readable(f"{about['perturbation']} on {about['checkpoint']}" if ours else name),
            norm=norm or str(about.get("norm", "")) or ("" if eps is None else "linf"),
            eps=size,
        )

    @property
    def label(self) -> str:
        return self.title

    def describe(self) -> dict[str, str | float]:
        return super().describe() | {"norm": self.norm, "eps": math.nan if self.eps is None else self.eps}

    @property
    def budget(self) -> Ball | None:
        return None if self.eps is None else Ball(get_norm(self.norm), self.eps)

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        where = (batch.ids[:, None] == self.ids[None]).int().argmax(1)
        return Perturbed.free(self.images[where].to(batch.images.device))


def _readable(title: str) -> str:
    """A title that anybody may have written, fit for a table."""
    return re.sub(r"[^\w.:=+ -]", "_", title)[:60]


def images_of(found: PerturbedImages, whole: ImageDataset) -> ImageDataset:
    """The originals of perturbed images, in their order.

    By their ids; without any, the images must be the whole split, the first n of it, or the n that
    `load_dataset(..., images=n)` takes (`ImageDataset.subset`): whichever is nearest to them.

    Raises:
        BenchError: there are no such images, or their labels are others.
    """
    count = len(found.images)
    if found.about.get("fingerprint", whole.fingerprint) != whole.fingerprint:
        raise BenchError(f"the images were made of another {found.about.get('dataset')} than {whole.name}")
    if found.ids is not None:
        data = whole.select(found.ids.tolist())
    elif count == len(whole):
        data = whole
    elif count > len(whole):
        raise BenchError(f"there are {count} images, and {len(whole)} in {whole.name}")
    else:
        images = torch.from_numpy(found.images)
        candidates = [whole.subset(count), whole.select(whole.ids[:count])]
        data = min(candidates, key=lambda data: _mean_distance(images, data))
    if found.labels is not None:
        different = np.flatnonzero(found.labels != data.labels.numpy())
        if len(different):
            raise BenchError(
                f"{len(different)} of {count} labels in the file are not those of {whole.name} (the first at "
                f"place {different[0]}): say with `ids` which images these are"
            )
    return data


def _mean_distance(images: Tensor, data: ImageDataset) -> float:
    given = Given.of(images, data)
    return float((given.images - to_float(data.images)).square().mean())
