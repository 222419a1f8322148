"""Published sets of corrupted images: CIFAR-10-C, ImageNet-C and their siblings, read in place; CIFAR-10.1.

A corrupted image has the id of its original in the clean test split; that is how the two are paired.
"""

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustbench_sde.data.class_order import class_folders, ordered_names
from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.data.decode import Reading, decode
from robustbench_sde.data.image_folder import image_files
from robustbench_sde.errors import BenchError, unknown_name

#: images that are read and hashed at a time
_CHUNK = 1000
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: versions of CIFAR-10.1 by the beginning of their file names; the authors recommend v6
_CIFAR10_1 = ("cifar10.1_v6", "cifar10.1_v4")


@dataclass(frozen=True, eq=False)
class LoadedImages:
    """Some images of one corruption and severity, for a machine without the files."""

    #: (n,) int64
    ids: Tensor
    #: (n, C, H, W) uint8
    stored: Tensor

    def images(self, corruption: str, severity: int | None, ids: Tensor) -> Tensor:
        """Return (len(ids), C, H, W) uint8: the images with these ids, which must be here."""
        where = (ids[:, None] == self.ids[None]).int().argmax(1)
        return self.stored[where]


@dataclass(frozen=True)
class OfficialSet(ABC):
    """A folder of corrupted images. Nothing is read before it is asked for."""

    #: name on the command line, as ``cifar10-c``
    name: str
    folder: Path

    #: 1 to 5, or empty where the set has none
    severities: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5)

    @property
    @abstractmethod
    def corruptions(self) -> tuple[str, ...]:
        """Names of the corruptions that are there."""

    @abstractmethod
    def labels(self, corruption: str, severity: int | None) -> npt.NDArray[np.int64]:
        """Return the (n,) labels of all images, by id."""

    @abstractmethod
    def images(self, corruption: str, severity: int | None, ids: Tensor) -> Tensor:
        """Return (len(ids), C, H, W) uint8: the images with these ids."""

    def beside(self, data: ImageDataset) -> Self:
        """Return the set with its images in as many channels as those of the clean data have."""
        return self

    def check(self, corruption: str, severity: int | None, data: ImageDataset) -> None:
        """Raise BenchError unless these are perturbed images of `data`: present, same labels and shape."""
        if corruption not in self.corruptions:
            raise BenchError(
                f"{self.folder} has no {corruption!r}; `corruptions` takes what it has: "
                f"{', '.join(self.corruptions)}"
            )
        labels, ids = self.labels(corruption, severity), data.ids.numpy()
        place = f"{self.folder}, {corruption}" + (f" severity {severity}" if severity else "")
        if int(ids.max()) >= len(labels):
            raise BenchError(f"{place}: {len(labels)} images; {data.name} has one with id {int(ids.max())}")
        wrong = np.flatnonzero(labels[ids] != data.labels.numpy())
        if len(wrong):
            first = wrong[0]
            raise BenchError(
                f"{place}: image {ids[first]} has label {labels[ids[first]]}, in {data.name} it has "
                f"{int(data.labels[first])}; give the clean split of these images as `data`"
            )
        shape = tuple(self.images(corruption, severity, data.ids[:1]).shape[1:])
        if shape != data.image_shape:
            height, width = shape[1:]
            hint = (
                f"; `crop` {height} after `resize` gives the clean images this size"
                if height == width and shape[0] == data.image_shape[0]
                else ""
            )
            raise BenchError(f"{place}: images are {shape}, those of {data.name} {data.image_shape}{hint}")

    def with_images_in_memory(self, corruption: str, severity: int | None, ids: Tensor) -> "LoadedImages":
        """Load the images with these ids of one corruption into memory."""
        return LoadedImages(ids, self.images(corruption, severity, ids))

    def fingerprint(self, corruption: str, severity: int | None, ids: Tensor) -> str:
        """Return the sha256 over the images with these ids."""
        digest = hashlib.sha256()
        for piece in ids.split(_CHUNK):
            digest.update(self.images(corruption, severity, piece).numpy().tobytes())
        return digest.hexdigest()


class CifarC(OfficialSet):
    """``<corruption>.npy`` (5 n, H, W, 3) uint8, severity after severity, and ``labels.npy`` (5 n,)."""

    @cached_property
    def corruptions(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self.folder.glob("*.npy") if path.stem != "labels"))

    def labels(self, corruption: str, severity: int | None) -> npt.NDArray[np.int64]:
        return self._labels[self._rows(severity)]

    def check(self, corruption: str, severity: int | None, data: ImageDataset) -> None:
        path = self.folder / f"{corruption}.npy"
        if path.is_file():  # its number of labels would be the first thing that is wrong with CIFAR-10-P
            _refuse_sequences(_mapped(path), path)
        super().check(corruption, severity, data)

    def images(self, corruption: str, severity: int | None, ids: Tensor) -> Tensor:
        path = self.folder / f"{corruption}.npy"
        rows = read_images(path, len(self._labels))[self._rows(severity)]
        return _channels_first(rows[ids.numpy()])

    @cached_property
    def _labels(self) -> npt.NDArray[np.int64]:
        path = self.folder / "labels.npy"
        labels = read_labels(path, _CLASSES[self.name])
        if len(labels) % 5:
            raise BenchError(f"{path}: {len(labels)} labels; there must be as many for each of 5 severities")
        return labels

    def _rows(self, severity: int | None) -> slice:
        count = len(self._labels) // 5
        return slice(((severity or 1) - 1) * count, (severity or 1) * count)


class MnistC(OfficialSet):
    """``<corruption>/test_images.npy`` (n, 28, 28, 1) uint8 and ``test_labels.npy`` (n,); no severities."""

    severities = ()

    @cached_property
    def corruptions(self) -> tuple[str, ...]:
        names = {path.parent.name for path in self.folder.glob("*/test_images.npy")}
        return tuple(sorted(names - {"identity"}))

    def labels(self, corruption: str, severity: int | None) -> npt.NDArray[np.int64]:
        return read_labels(self.folder / corruption / "test_labels.npy", _CLASSES[self.name])

    def images(self, corruption: str, severity: int | None, ids: Tensor) -> Tensor:
        count = len(self.labels(corruption, severity))
        rows = read_images(self.folder / corruption / "test_images.npy", count)
        return _channels_first(rows[ids.numpy()])


@dataclass(frozen=True)
class FoldersC(OfficialSet):
    """``<corruption>/<severity>/<class>/*.JPEG``; ids count the files, classes and names in sorted order."""

    #: 3 gives greyscale files three equal channels; None goes by the files of a batch
    channels: int | None = None
    #: names of the classes of the clean images, which give the labels where all folders are among them
    class_names: tuple[str, ...] = ()

    def beside(self, data: ImageDataset) -> Self:
        return replace(self, channels=data.image_shape[0], class_names=data.class_names)

    @cached_property
    def corruptions(self) -> tuple[str, ...]:
        return tuple(sorted(path.parent.name for path in self.folder.glob("*/1") if path.is_dir()))

    def labels(self, corruption: str, severity: int | None) -> npt.NDArray[np.int64]:
        return self._files(corruption, severity or 1)[1]

    def images(self, corruption: str, severity: int | None, ids: Tensor) -> Tensor:
        files, _ = self._files(corruption, severity or 1)
        return decode([files[index] for index in ids.tolist()], Reading(channels=self.channels))

    def _files(self, corruption: str, severity: int) -> tuple[list[Path], npt.NDArray[np.int64]]:
        root = self.folder / corruption / str(severity)
        if not root.is_dir():
            raise BenchError(f"{root} does not exist; the layout is <corruption>/<severity>/<class>/*.JPEG")
        folders = {folder.name: folder for folder in class_folders(root)}
        if folders.keys() <= set(self.class_names):
            names = [name for name in self.class_names if name in folders]
            places = [self.class_names.index(name) for name in names]
        else:
            with warnings.catch_warnings(action="ignore"):  # the clean images have said it
                names = ordered_names(list(folders), None, str(root))
            places = list(range(len(names)))
        groups = [image_files(folders[name]) for name in names]
        labels = np.repeat(places, [len(group) for group in groups])
        return [path for group in groups for path in group], labels


_READERS: Mapping[str, type[OfficialSet]] = {
    "cifar10-c": CifarC,
    "cifar100-c": CifarC,
    "mnist-c": MnistC,
    "tiny-imagenet-c": FoldersC,
    "imagenet-c": FoldersC,
}
_CLASSES = {"cifar10-c": 10, "cifar100-c": 100, "mnist-c": 10}

#: data sets that published sets corrupt, by their names ("" if the user has to name it)
OFFICIAL: Mapping[str, str] = {
    "cifar10-c": "cifar10",
    "cifar100-c": "cifar100",
    "mnist-c": "mnist",
    "tiny-imagenet-c": "",
    "imagenet-c": "",
}


def open_official(text: str) -> OfficialSet:
    """Return the published set of ``NAME:DIR``, as ``cifar10-c:/data/CIFAR-10-C``.

    Raises:
        BenchError: the name is unknown, or the folder does not exist or holds no corruption.
    """
    name, _, folder = text.partition(":")
    if name.endswith("-p"):
        raise BenchError(f"{name} holds sequences of frames, which are not supported; use {name[:-1]}c")
    if name not in _READERS:
        raise unknown_name("corrupted data set", name, _READERS)
    path = Path(folder).expanduser()
    if not folder or not path.is_dir():
        raise BenchError(f"{text!r}: no such folder; write {name}:DIR with the folder of its corruptions")
    official = _READERS[name](name, path)
    if not official.corruptions:
        layout = " ".join((type(official).__doc__ or "").split())
        raise BenchError(f"{path} holds no corruption of {name}; its layout is {layout}")
    return official


def load_cifar10_1(folder: Path, split: str) -> ImageDataset:
    """Load CIFAR-10.1 v6 (v4 where that is not there) of ``cifar10.1_v6_data.npy`` and ``..._labels.npy``.

    Raises:
        BenchError: the files are missing or damaged, or the training split is asked for.
    """
    if split != "test":
        raise BenchError("dataset 'cifar10.1' has a test split only")
    for prefix in _CIFAR10_1:
        if (folder / f"{prefix}_data.npy").is_file():
            labels = read_labels(folder / f"{prefix}_labels.npy", len(_CIFAR10))
            images = read_images(folder / f"{prefix}_data.npy", len(labels))
            name = prefix.replace("_", "-")
            return ImageDataset.whole(
                name, split, _channels_first(images), torch.from_numpy(labels), _CIFAR10
            )
    raise BenchError(f"{folder} has no {_CIFAR10_1[0]}_data.npy nor {_CIFAR10_1[1]}_data.npy")


def read_images(path: Path, count: int) -> npt.NDArray[np.uint8]:
    """Return (count, H, W, C) uint8, memory-mapped. Raises BenchError unless the file holds that."""
    array = _mapped(path)
    _refuse_sequences(array, path)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3):
        raise BenchError(f"{path}: {array.dtype} {array.shape}; it must be uint8 (n, H, W, 1 or 3)")
    if len(array) != count:
        raise BenchError(f"{path}: {len(array)} images for {count} labels")
    return array


def _refuse_sequences(array: npt.NDArray[Any], path: Path) -> None:
    if array.ndim == 5:
        raise BenchError(f"{path}: {array.shape} are sequences of frames, as in CIFAR-10-P: not supported")


def read_labels(path: Path, classes: int) -> npt.NDArray[np.int64]:
    """Return (n,) int64. Raises BenchError unless the file holds whole numbers in [0, classes)."""
    array = _mapped(path)
    if array.dtype.kind not in "iu" or array.ndim != 1 or not len(array):
        raise BenchError(f"{path}: {array.dtype} {array.shape}; it must be whole numbers (n,)")
    if int(array.min()) < 0 or int(array.max()) >= classes:
        wrong = int(array.max()) if int(array.min()) >= 0 else int(array.min())
        raise BenchError(f"{path}: label {wrong} is out of range for {classes} classes")
    return array.astype(np.int64)


def _mapped(path: Path) -> npt.NDArray[Any]:
    if not path.is_file():
        raise BenchError(f"{path} does not exist")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise BenchError(f"{path} is not a whole .npy file ({reason})") from error
    if not isinstance(array, np.ndarray):
        raise BenchError(f"{path} is an archive of arrays; it must be one .npy array")
    return array


def _channels_first(images: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).contiguous()
