"""Anybody's images: ``train/<class>/*`` and ``test/<class>/*``."""

import os
import warnings
from pathlib import Path

import torch

from robustbench_sde.data.class_order import class_folders, ordered_names
from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.data.decode import Reading, decode
from robustbench_sde.data.framing import AS_IS, Framing
from robustbench_sde.errors import BenchError, BenchWarning

#: files with other endings are not looked at
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
#: where the test images are, in order; ImageNet's ``test`` has no classes in it, its ``val`` has
_TEST_FOLDERS = ("test", "val", "validation")


def load_image_folder(
    root: Path, split: str, framing: Framing = AS_IS, class_order: str | None = None
) -> ImageDataset:
    """Load one split of a folder of images, at ``root/split/<class>/*``.

    Class folders in order (`ordered_names`) give the labels, sorted paths below them the ids. Images are
    greyscale when all are, else RGB; transparency is dropped and EXIF rotation not applied, as in
    torchvision's ImageFolder. Where ``test`` has no classes in it, ``val`` is the test split, which a
    `BenchWarning` says.

    Args:
        framing: how images get one size.
        class_order: as in `ordered_names`.

    Raises:
        BenchError: a folder is missing or empty, the splits have different classes, or an image cannot be
            read, is implausibly large, or differs in size from the first; as `ordered_names`.
    """
    folder = _split_folder(root, split)
    if not folder.is_dir():
        others = ", ".join(path.name for path in class_folders(root)) if root.is_dir() else ""
        held = f"; {root} has {others}" if others else ""
        raise BenchError(
            f"no folder {folder}; an image folder has its {split} images in {split}/<class>/{held}"
        )
    names = [path.name for path in class_folders(folder)]
    _check_classes(root, folder, names)
    name = f"image-folder:{root.resolve().name}"
    class_names = ordered_names(names, class_order, name)
    files = [image_files(folder / own) if own in names else [] for own in class_names]
    labels = torch.repeat_interleave(torch.tensor([len(group) for group in files]))
    images = decode([path for group in files for path in group], Reading(framing))
    return ImageDataset.whole(name, split, images, labels, class_names)


def _split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split; for the test split the first with classes of `_TEST_FOLDERS`."""
    if split != "test" or not root.is_dir():
        return root / split
    for name in _TEST_FOLDERS:
        folder = root / name
        if folder.is_dir() and class_folders(folder):
            if name != "test":
                warnings.warn(f"{folder} is taken for the test split", BenchWarning, 4)
            return folder
    return root / split


def image_files(folder: Path) -> list[Path]:
    """The images of a class, by path, also in folders below it; at least one."""
    files = sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
    )
    if not files:
        raise BenchError(f"no image in {folder}; images end in {', '.join(sorted(EXTENSIONS))}")
    return files


def _check_classes(root: Path, folder: Path, names: list[str]) -> None:
    """Raise BenchError unless there are class folders, and the other split, where it exists, has the same."""
    if not names:
        raise BenchError(f"no class folder in {folder}; images belong into {folder.name}/<class>/")
    other = root / "train" if folder.name != "train" else _test_folder_quietly(root)
    if not other.is_dir():
        return
    differing = sorted(set(names) ^ {path.name for path in class_folders(other)})
    if differing:
        has, lacks = (folder, other) if differing[0] in names else (other, folder)
        raise BenchError(
            f"the splits of {root} have different classes: {differing[0]!r} is in {has.name} and not in "
            f"{lacks.name}"
        )


def _test_folder_quietly(root: Path) -> Path:
    with warnings.catch_warnings(action="ignore"):
        return _split_folder(root, "test")
