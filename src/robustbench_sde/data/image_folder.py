"""Anybody's images: ``train/<class>/*`` and ``test/<class>/*``."""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustbench_sde.data.dataset import ImageDataset
from robustbench_sde.errors import BenchError

if TYPE_CHECKING:
    from PIL.Image import Image

#: files with other endings are not looked at
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_GREY_MODES = frozenset({"1", "L", "LA"})
#: Pillow cannot turn deeper pixels (16 bit, float) into 8 bit without clipping them
_COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"})
#: files a thread takes at a time
_CHUNK = 128


def load_image_folder(root: Path, split: str, image_size: tuple[int, int] | None = None) -> ImageDataset:
    """One split of a folder of images, at ``root/split/<class>/*``.

    Sorted class folders give the labels, sorted file names the ids. Images are greyscale when all
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
        raise BenchError(f"no folder {folder}; an image folder has its {split} images in {split}/<class>/")
    classes = class_folders(folder)
    class_names = [path.name for path in classes]
    _check_classes(root, split, class_names)
    files = [image_files(class_folder) for class_folder in classes]
    labels = torch.repeat_interleave(torch.tensor([len(group) for group in files]))
    images = decode([path for group in files for path in group], image_size)
    return ImageDataset.whole(f"image-folder:{root.resolve().name}", split, images, labels, class_names)


def decode(paths: Sequence[Path], image_size: tuple[int, int] | None = None) -> Tensor:
    """Images (n, C, H, W) uint8 of the files, C = 1 if all are greyscale, else 3; read by parallel threads.

    Args:
        paths: at least one.
        image_size: (H, W) to resize to; None takes the size of the first, which all must have.

    Raises:
        BenchError: see `load_image_folder`.
    """
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow only warns between one and two times its limit on the number of pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        height, width = image_size or _size_of(paths[0])
        pixels = _allocate((len(paths), 3, height, width))
        read = partial(_decode_into, pixels.numpy(), paths, image_size is not None)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            all_grey = all(list(pool.map(read, range(0, len(paths), _CHUNK))))
    return pixels[:, :1].clone() if all_grey else pixels


def _decode_into(out: npt.NDArray[np.uint8], paths: Sequence[Path], resize: bool, start: int) -> bool:
    """Fill one chunk of `out`, (n, 3, H, W), from its files; whether all of these are greyscale."""
    height, width = out.shape[2:]
    all_grey = True
    for index in range(start, min(start + _CHUNK, len(paths))):
        with _opened(paths[index]) as image:
            if not resize and image.size != (width, height):
                raise BenchError(
                    f"{paths[index]} is {image.height}x{image.width}, but {paths[0]} is {height}x{width} "
                    "(height x width); give --image-size to resize all"
                )
            all_grey &= image.mode in _GREY_MODES
            out[index] = _rgb(image, (height, width)).transpose(2, 0, 1)
    return all_grey


@contextmanager
def _opened(path: Path) -> Iterator["Image"]:
    """An image, its pixels not yet decoded; whatever fails while it is open is an error of its file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except BenchError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise BenchError(f"cannot read image {path}: {reason}") from error


def _rgb(image: "Image", size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 of `size` (H, W); a greyscale image has three equal channels."""
    from PIL import Image

    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise ValueError(f"its pixels are {image.mode!r}; convert it to 8-bit greyscale or RGB")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    height, width = size
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _size_of(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return image.height, image.width


def _allocate(shape: tuple[int, ...]) -> Tensor:
    try:
        return torch.empty(shape, dtype=torch.uint8)
    except RuntimeError:
        count, _, height, width = shape
        raise BenchError(
            f"{count} images of {height}x{width} do not fit into memory; give a smaller --image-size"
        ) from None


def class_folders(folder: Path) -> list[Path]:
    """The visible folders in a split folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """The images of a class, by name; at least one."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
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
