"""The public benchmarks, read by torchvision from files that it fetches on request."""

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.errors import BenchError

_DIGITS = tuple("0123456789")
_STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

#: what torchvision raises when files are missing, truncated or otherwise not what they should be
_FILE_ERRORS = (RuntimeError, OSError, ValueError, EOFError, AssertionError, LookupError, TypeError)


@dataclass(frozen=True)
class TorchvisionSet:
    """How one data set is read."""

    #: class in `torchvision.datasets`
    reader: str
    #: where its files are below the data folder; ``{split}`` is filled in
    home: str
    #: None: the reader knows them (its ``classes``)
    class_names: tuple[str, ...] | None = None
    #: whether the reader takes ``split="test"`` rather than ``train=False``
    split_by_name: bool = False
    #: (crop padding in pixels, whether to flip) in training
    augmentation: tuple[int, bool] = (4, True)


TORCHVISION_SETS: Mapping[str, TorchvisionSet] = {
    "mnist": TorchvisionSet("MNIST", "MNIST/raw", _DIGITS, augmentation=(2, False)),
    "fashion-mnist": TorchvisionSet("FashionMNIST", "FashionMNIST/raw", augmentation=(2, True)),
    "cifar10": TorchvisionSet("CIFAR10", "cifar-10-batches-py"),
    "cifar100": TorchvisionSet("CIFAR100", "cifar-100-python"),
    "svhn": TorchvisionSet("SVHN", "{split}_32x32.mat", _DIGITS, split_by_name=True, augmentation=(4, False)),
    "stl10": TorchvisionSet("STL10", "stl10_binary", _STL10, split_by_name=True, augmentation=(12, True)),
}


def load_torchvision(name: str, split: str, data_dir: Path, *, download: bool = False) -> ImageDataset:
    """The ``train`` or ``test`` split of one of `TORCHVISION_SETS`.

    The CIFAR files are pickles: torchvision opens them only when their checksums are those of the originals.

    Raises:
        BenchError: the files are missing, damaged or cannot be fetched.
    """
    entry = TORCHVISION_SETS[name]
    try:
        reader = _read(entry, split, data_dir, download)
    except _FILE_ERRORS as error:
        home = data_dir / entry.home.format(split=split)
        raise _file_error(name, data_dir, home, download, error) from error
    labels = reader.targets if hasattr(reader, "targets") else reader.labels
    return ImageDataset.whole(
        name,
        split,
        channels_first(torch.as_tensor(reader.data)),
        torch.as_tensor(labels).to(torch.int64),
        entry.class_names or reader.classes,
    )


def channels_first(images: Tensor) -> Tensor:
    """(n, H, W), (n, H, W, 3) or (n, C, H, W) as contiguous (n, C, H, W)."""
    if images.ndim == 3:
        return images.unsqueeze(1).contiguous()
    return (images.permute(0, 3, 1, 2) if images.shape[-1] == 3 else images).contiguous()


def _read(entry: TorchvisionSet, split: str, data_dir: Path, download: bool) -> Any:
    from torchvision import datasets

    part = {"split": split} if entry.split_by_name else {"train": split == "train"}
    # torchvision reports on downloads with print; standard output belongs to our results
    with contextlib.redirect_stdout(sys.stderr):
        return getattr(datasets, entry.reader)(data_dir, download=download, **part)


def _file_error(name: str, data_dir: Path, home: Path, download: bool, error: Exception) -> BenchError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    if download:
        return BenchError(
            f"could not fetch dataset {name!r} into {data_dir} ({reason}); "
            f"check the connection and that the folder is writable, or delete {home} if it is damaged"
        )
    if home.exists():
        return BenchError(
            f"the files of dataset {name!r} in {home} are damaged or incomplete; "
            "delete them and give `download` to fetch them again"
        )
    return BenchError(
        f"dataset {name!r} is not in {data_dir}; give `download` to fetch it, or its folder as `data_dir`"
    )
