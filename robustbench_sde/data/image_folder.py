"""Anybody's images: ``train/<class>/*`` and ``test/<class>/*``."""

import os
from pathlib import Path

import torch

from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.data.decode import decode
from robustbench_sde.errors import BenchError

#: files with other endings are not looked at
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def load_image_folder(root: Path, split: str, image_size: tuple[int, int] | None = None) -> ImageDataset:
    """One split of a folder of images, at ``root/split/<class>/*``.

    Sorted class folders give the labels, sorted paths below them the ids. Images are greyscale when all
    are, else RGB; transparency is dropped and EXIF rotation not applied, as in torchvision's ImageFolder.

    Args:
        image_size: (H, W) to resize to, bilinear with antialiasing, without keeping proportions;
            None takes the images as they are.

    Raises:
        BenchError: a folder is missing or empty, the splits have different classes, or an image cannot be
            read, is implausibly large, or differs in size from the first.
    """
    folder = root / split
    if not folder.is_dir():
        others = ", ".join(path.name for path in class_folders(root)) if root.is_dir() else ""
        held = f"; {root} has {others}" if others else ""
        raise BenchError(
            f"no folder {folder}; an image folder has its {split} images in {split}/<class>/{held}"
        )
    classes = class_folders(folder)
    class_names = [path.name for path in classes]
    _check_classes(root, split, class_names)
    files = [image_files(class_folder) for class_folder in classes]
    labels = torch.repeat_interleave(torch.tensor([len(group) for group in files]))
    images = decode([path for group in files for path in group], image_size)
    return ImageDataset.whole(f"image-folder:{root.resolve().name}", split, images, labels, class_names)


def class_folders(folder: Path) -> list[Path]:
    """The visible folders in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


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


def _check_classes(root: Path, split: str, names: list[str]) -> None:
    """There are class folders, and the other split, where it exists, has the same."""
    if not names:
        raise BenchError(f"no class folder in {root / split}; images belong into {split}/<class>/")
    other = "train" if split == "test" else "test"
    if not (root / other).is_dir():
        return
    differing = sorted(set(names) ^ {path.name for path in class_folders(root / other)})
    if differing:
        has, lacks = (split, other) if differing[0] in names else (other, split)
        raise BenchError(
            f"the splits of {root} have different classes: {differing[0]!r} is in {has} and not in {lacks}"
        )
