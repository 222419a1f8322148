"""Data sets by name. A new one is a function that returns an `ImageDataset` and an entry in `DATASETS`.

A plug-in's is a function of a `Request`, under the entry point group ``robustbench_sde.datasets``.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.data.digits import load_digits
from robustbench_sde.data.framing import AS_IS, Framing
from robustbench_sde.data.huggingface import load_huggingface
from robustbench_sde.data.image_folder import load_image_folder
from robustbench_sde.data.npz import load_npz
from robustbench_sde.data.official import OFFICIAL, load_cifar10_1
from robustbench_sde.data.tiny_imagenet import NAME as TINY_IMAGENET
from robustbench_sde.data.tiny_imagenet import load_tiny_imagenet
from robustbench_sde.data.torchvision_sets import TORCHVISION_SETS, load_torchvision
from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.plugins import Plugins
from robustbench_sde.texts import spelled

SPLITS = ("train", "test")
#: environment variable that names the folder of downloaded data sets
DATA_DIR_VARIABLE = "SDE_BENCH_DATA"
DEFAULT_DATA_DIR = Path("~/.cache/sde-bench-data")
IMAGE_FOLDER = "image-folder"
HUGGINGFACE = "huggingface"
NPZ = "npz"
CIFAR10_1 = "cifar10.1"
#: data sets that are named with the folder or file they are in
_BY_PATH = (IMAGE_FOLDER, HUGGINGFACE, NPZ, CIFAR10_1, TINY_IMAGENET)
#: data sets whose images may be of any size
_RESIZABLE = (IMAGE_FOLDER, HUGGINGFACE)


@dataclass(frozen=True)
class Request:
    """The wishes of a caller of `load_dataset`; a loader uses those that concern it."""

    #: ``train`` or ``test``
    split: str
    #: folder of downloaded files
    data_dir: Path
    #: whether to fetch missing files
    download: bool
    #: path behind the colon of ``image-folder:PATH``; None without one
    path: Path | None
    #: (H, W) to resize to, without keeping proportions
    image_size: tuple[int, int] | None
    #: sizes that keep proportions; holds `image_size` too
    framing: Framing = AS_IS
    #: order of class folders (`ordered_names`); None: the usual one
    class_order: str | None = None


@dataclass(frozen=True)
class DatasetEntry:
    """Everything known of a data set by name; a new one needs no line anywhere else."""

    #: one line for a listing
    summary: str
    load: Callable[[Request], ImageDataset]
    #: data set whose training split belongs to this one; None: its own
    trained_on: str | None = None
    #: (crop padding in pixels, whether to flip) that training uses; None: an eighth of the side, and flipped
    augmentation: tuple[int, bool] | None = None


def _from_torchvision(name: str, request: Request) -> ImageDataset:
    return load_torchvision(name, request.split, request.data_dir, download=request.download)


DATASETS: Mapping[str, DatasetEntry] = {
    "digits": DatasetEntry(
        "1,797 handwritten digits of 1x32x32; needs no files",
        lambda request: load_digits(request.split),
        augmentation=(2, False),
    ),
    **{
        name: DatasetEntry(
            f"{entry.reader} of torchvision; can be downloaded",
            partial(_from_torchvision, name),
            augmentation=entry.augmentation,
        )
        for name, entry in TORCHVISION_SETS.items()
    },
    IMAGE_FOLDER: DatasetEntry(
        "image-folder:PATH with train/<class>/* and test/<class>/* (else val); can be resized",
        lambda request: load_image_folder(
            _path(request), request.split, request.framing, request.class_order
        ),
    ),
    HUGGINGFACE: DatasetEntry(
        "huggingface:PATH as datasets.save_to_disk writes it, or with Parquet files; can be resized",
        lambda request: load_huggingface(_path(request), request.split, request.framing),
    ),
    NPZ: DatasetEntry(
        "npz:FILE with arrays x and y, or x_train, y_train, x_test and y_test, or MedMNIST's",
        lambda request: load_npz(_path(request), request.split),
    ),
    CIFAR10_1: DatasetEntry(
        "cifar10.1:PATH with the .npy files of CIFAR-10.1 (v6, else v4); test images only",
        lambda request: load_cifar10_1(_path(request), request.split),
        trained_on="cifar10",
    ),
    TINY_IMAGENET: DatasetEntry(
        "tiny-imagenet:PATH as published, with wnids.txt, words.txt, train and val (its test split)",
        lambda request: load_tiny_imagenet(_path(request), request.split),
    ),
}


def _path(request: Request) -> Path:
    assert request.path is not None  # `load_dataset` has seen to it
    return request.path


def _from_plugin(name: str, load: object) -> DatasetEntry:
    if not callable(load):
        raise BenchError(f"it is {load!r}; it must be a function of a Request that returns an ImageDataset")
    summary = next(iter((load.__doc__ or "").strip().splitlines()), "")

    def checked(request: Request) -> ImageDataset:
        try:
            data = load(request)
        except BenchError:
            raise
        except Exception as error:
            raise BenchError(
                f"dataset {name!r} failed in its plug-in: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(data, ImageDataset) or data.name.partition(":")[0] != name:
            given = f"one called {data.name!r}" if isinstance(data, ImageDataset) else type(data).__name__
            raise BenchError(
                f"dataset {name!r}: its plug-in returned {given}, not an ImageDataset of that name"
            )
        return data

    return DatasetEntry(summary, checked)


DATASET_PLUGINS = Plugins("datasets", _from_plugin)


def load_dataset(
    name: str,
    *,
    split: str = "test",
    images: int | Literal["all"] | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | tuple[int, int] | None = None,
    resize: int | None = None,
    crop: int | tuple[int, int] | None = None,
    interpolation: str = "bilinear",
    class_order: str | None = None,
) -> ImageDataset:
    """Load a data set by the name that `--dataset` accepts.

    Args:
        name: key of `DATASETS` in upper or lower case, name of a plug-in, or your own data as
            ``image-folder:PATH``, ``npz:FILE`` or ``huggingface:PATH``.
        split: ``train`` or ``test``.
        images: number of images, from the start of a fixed random order (`ImageDataset.subset`); None and
            ``"all"`` take all.
        data_dir: folder of downloaded files; None takes $SDE_BENCH_DATA, or ~/.cache/sde-bench-data.
        download: whether to download missing files.
        image_size: size S or (H, W) to which images of a folder or of Hugging Face are resized, without
            keeping proportions.
        resize: number of pixels to which the shorter side of such images is resized, keeping proportions.
        crop: size S or (H, W) that is cut from the centre of such images, after `resize`.
        interpolation: filter that computes the pixels of another size, like ``bilinear`` or ``bicubic``.
        class_order: order of the classes of an image folder: ``numeric``, ``text``, or a text file with a
            class in each line; None: numeric where all folders are numbers, else text.

    Returns:
        Images (n, C, H, W) uint8 with labels, and with ids, which are the indices in the whole split.

    Raises:
        BenchError: the name or split is unknown, files are missing or damaged, or a value is wrong:
            `images`, `image_size`, `resize`, `crop` or `class_order`.
    """
    written, colon, path = name.partition(":")
    kind = spelled(written, [*DATASETS, *DATASET_PLUGINS.names()])
    if kind in OFFICIAL:
        raise BenchError(f"dataset {kind!r} holds corrupted images; score it with `official`, {name}")
    plugin = None if kind in DATASETS else DATASET_PLUGINS.find(kind)
    entry = DATASETS.get(kind) or plugin
    if entry is None or (colon and kind in DATASETS and kind not in _BY_PATH):
        raise unknown_name("dataset", name, [*DATASETS, *DATASET_PLUGINS.names()])
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if images == "all":
        images = None
    if images is not None and images < 1:
        raise BenchError(f"`images` must be at least 1, not {images}")
    if kind in _BY_PATH and not path:
        raise BenchError(f"dataset {kind!r} needs a path; write {kind}:PATH")
    framing = Framing(_height_and_width(image_size), resize, _height_and_width(crop), interpolation)
    if interpolation != "bilinear" and framing.squeeze is None and resize is None:
        raise BenchError("`interpolation` is of `resize` and `image_size`; give one of them")
    if framing and kind not in _RESIZABLE and plugin is None:
        option = "image_size" if image_size is not None else "crop" if resize is None else "resize"
        raise BenchError(
            f"`{option}` is for {' and '.join(f'{name}:PATH' for name in _RESIZABLE)}; dataset {name!r} has "
            "one size"
        )
    if class_order is not None and kind != IMAGE_FOLDER and plugin is None:
        raise BenchError(f"`class_order` is for {IMAGE_FOLDER}:PATH; dataset {name!r} has its own order")
    request = Request(
        split=split,
        data_dir=_data_dir(data_dir),
        download=download,
        path=Path(path).expanduser() if path else None,
        image_size=framing.squeeze,
        framing=framing,
        class_order=class_order,
    )
    data = entry.load(request)
    if framing:
        data = replace(data, framing=framing)
    return data if images is None else data.subset(images)


def _data_dir(given: str | Path | None) -> Path:
    return Path(given or os.environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR).expanduser()


def _height_and_width(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def entry_of(name: str) -> DatasetEntry | None:
    """Return what is known of a data set by its name in tables, as ``cifar10.1-v6``; None for a plug-in's."""
    kind = name.partition(":")[0]
    return DATASETS.get(kind) or DATASETS.get(kind.partition("-v")[0])
