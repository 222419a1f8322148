"""One split of a data set: uint8 images, labels, and ids that never change."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustbench_sde.data.framing import Framing
from robustbench_sde.errors import BenchError, counted
from robustbench_sde.shown import html_facts, html_pictures

#: largest number of classes; more are taken for a mistake in the labels
MOST_CLASSES = 100_000
#: numbers of class names and of images that notebooks show
_MOST_NAMES, _PICTURES = 10, 8
#: fixes which images `ImageDataset.subset` takes; changing it changes every published subset
_SUBSET_KEY = 0x5DEBE9C4


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 images of any shape to float32 in [0, 1]: x / 255."""
    return images.to(torch.float32) / 255


def allocate(count: int, channels: int, height: int, width: int) -> Tensor:
    """Allocate (count, channels, height, width) uint8; raise BenchError if memory cannot hold it."""
    try:
        return torch.empty((count, channels, height, width), dtype=torch.uint8)
    except RuntimeError:
        raise BenchError(f"{count} images of {height}x{width} do not fit into memory") from None


def keyed_ranks(count: int, key: int) -> npt.NDArray[np.uint64]:
    """Return `count` fixed 64-bit numbers; the first k are the same for every count.

    They are the raw bits of numpy's Philox generator, which are the same in every version of numpy and do
    not depend on the seed of a run or on a global state.
    """
    return np.asarray(np.random.Philox(key=key).random_raw(count), dtype=np.uint64)


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Images and labels of a split of a data set, or of a part of a split.

    Raises:
        BenchError: the tensors do not fit together, a label is out of range, an id repeats, or there is no
            image or only one class.
    """

    #: name of the data set in tables; never a path of this machine
    name: str
    #: ``train`` or ``test``
    split: str
    #: (n, C, H, W) uint8
    images: Tensor
    #: (n,) int64 in [0, classes)
    labels: Tensor
    #: (n,) int64: index of each image in the whole split, whatever part of it this is
    ids: Tensor
    #: one name per label
    class_names: tuple[str, ...]
    #: ``sha256:...`` of the whole split (`fingerprint_of`); a subset keeps it
    fingerprint: str
    #: how they were brought to one size; None: they were not
    framing: Framing | None = None

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise BenchError(f"dataset {self.name!r}, {self.split} split: {problem}")

    @classmethod
    def whole(
        cls, name: str, split: str, images: Tensor, labels: Tensor, class_names: Sequence[str]
    ) -> "ImageDataset":
        """Make a whole split; ids count from 0, and the fingerprint is computed.

        Args:
            images: (n, C, H, W) uint8.
            labels: (n,) int64 in [0, len(class_names)).

        Raises:
            BenchError: as for the class.
        """
        ids = torch.arange(len(images))
        return cls(name, split, images, labels, ids, tuple(class_names), fingerprint_of(images, labels))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        """Return one line like ``<ImageDataset digits/test: 20 images of 1x32x32, 10 classes>``."""
        shape = "x".join(map(str, self.image_shape))
        images = counted(len(self), "image")
        return f"<ImageDataset {self.name}/{self.split}: {images} of {shape}, {self.classes} classes>"

    def _repr_html_(self) -> str:
        """Return the facts and the first images, for notebooks."""
        shape = "x".join(map(str, self.image_shape))
        names = ", ".join(self.class_names[:_MOST_NAMES]) + ", ..." * (self.classes > _MOST_NAMES)
        facts = {
            "images": f"{len(self)} of {shape}, uint8",
            "classes": f"{self.classes}: {names}",
            "ids": f"{int(self.ids.min())} to {int(self.ids.max())}",
            "framing": "" if self.framing is None else str(self.framing),
            "fingerprint": self.fingerprint[:19],
        }
        title = f"ImageDataset {self.name}, {self.split} split"
        table = html_facts(title, {name: value for name, value in facts.items() if value})
        if self.image_shape[0] not in (1, 3):
            return table
        pairs = zip(to_float(self.images[:_PICTURES]).numpy(), self.labels[:_PICTURES].tolist(), strict=True)
        return table + html_pictures([(image, self.class_names[label]) for image, label in pairs])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image, (C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes, whether or not each of them has an image here."""
        return len(self.class_names)

    def subset(self, count: int) -> "ImageDataset":
        """Return the first `count` images of a fixed random order of the split, sorted by id.

        The order depends on the ids alone and not on the seed of a run: the 200 images are the same for
        everybody, and the 500 images contain them; a subset of those 500 has the same 200.

        Raises:
            BenchError: `count` is below 1 or above the number of images.
        """
        if count < 1:
            raise BenchError(f"`images` must be at least 1, not {count}")
        if count > len(self):
            raise BenchError(
                f"{count} images asked for; dataset {self.name!r} has {len(self)} in {self.split}: give "
                f"`images` {len(self)} or fewer"
            )
        ids = self.ids.numpy()
        ranks = keyed_ranks(int(ids.max()) + 1, _SUBSET_KEY)[ids]
        first = np.argsort(ranks, kind="stable")[:count]
        return self._take(torch.from_numpy(first[np.argsort(ids[first])]))

    def select(self, ids: Tensor | Sequence[int]) -> "ImageDataset":
        """Return the images with these ids, in the given order.

        Raises:
            BenchError: an id does not exist here or is given twice, or no id is given.
        """
        wanted = torch.as_tensor(ids, dtype=torch.int64).tolist()
        position = {id_: index for index, id_ in enumerate(self.ids.tolist())}
        missing = [id_ for id_ in wanted if id_ not in position]
        if missing:
            raise BenchError(f"dataset {self.name!r} has no {self.split} image with id {missing[0]} here")
        return self._take(torch.tensor([position[id_] for id_ in wanted], dtype=torch.int64))

    def _take(self, index: Tensor) -> "ImageDataset":
        return replace(self, images=self.images[index], labels=self.labels[index], ids=self.ids[index])


def fingerprint_of(images: Tensor, labels: Tensor) -> str:
    """Return ``sha256:`` and the hex digest over dtype, shape and values of both tensors.

    Values are hashed in C order, labels as little-endian int64, so that every machine agrees.
    """
    digest = hashlib.sha256()
    for tensor, dtype in ((images, "|u1"), (labels, "<i8")):
        values = np.ascontiguousarray(tensor.numpy()).astype(dtype, copy=False)
        digest.update(f"{dtype}{list(values.shape)}".encode())
        digest.update(values.data)
    return f"sha256:{digest.hexdigest()}"


def _problem(data: ImageDataset) -> str | None:
    """Return the fault of the tensors, or None."""
    count = len(data.images)
    if data.images.dtype != torch.uint8 or data.images.ndim != 4:
        return f"images must be uint8 (n, C, H, W), not {data.images.dtype} {tuple(data.images.shape)}"
    if data.images.numel() == 0:
        return "there is no image in it"
    for field, values in (("labels", data.labels), ("ids", data.ids)):
        if values.dtype != torch.int64 or tuple(values.shape) != (count,):
            return f"{field} must be int64 ({count},), not {values.dtype} {tuple(values.shape)}"
    if data.classes < 2:
        return f"a classifier needs at least 2 classes, this has {data.classes}"
    if data.classes > MOST_CLASSES:
        return f"there can be {MOST_CLASSES} classes, this has {data.classes}"
    unprintable = next((name for name in data.class_names if not name.isprintable()), None)
    if unprintable is not None:  # it will stand in tables, logs and pages
        return f"the class name {unprintable[:40]!r} has control characters"
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= data.classes:
        return f"label {low if low < 0 else high} is out of range for {data.classes} classes"
    if int(data.ids.min()) < 0 or len(np.unique(data.ids.numpy())) != count:
        return "ids must be at least 0 and different from one another"
    return None
