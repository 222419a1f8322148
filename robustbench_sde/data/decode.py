"""Image files, or their bytes, as one tensor."""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

from robustbench_sde.data.dataset import allocate
from robustbench_sde.errors import BenchError

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY_MODES = frozenset({"1", "L", "LA"})
#: Pillow cannot turn deeper pixels (16 bit, float) into 8 bit without clipping them
_COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"})
#: files a thread takes at a time
_CHUNK = 128


@dataclass(frozen=True)
class Encoded:
    """The bytes of an image file."""

    #: where they are from, for errors
    label: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.label


class Decoder:
    """Fills one tensor with images, a batch of files at a time.

    Args:
        count: how many images will come.
        first: one of them.
        image_size: (H, W) to resize to, bilinear with antialiasing, without keeping proportions; None takes
            the size of `first`, which all must have.

    Raises:
        BenchError: `first` cannot be read, or memory cannot hold so many images.
    """

    def __init__(self, count: int, first: Path | Encoded, image_size: tuple[int, int] | None = None) -> None:
        self._first, self._resize = first, image_size is not None
        self._done, self._all_grey = 0, True
        with _no_bombs():
            self._size = image_size or _size_of(first)
        try:
            self._pixels = allocate(count, 3, *self._size)
        except BenchError as error:
            raise BenchError(f"{error}; give a smaller `image_size`") from None

    def add(self, files: Sequence[Path | Encoded]) -> None:
        """Decode the next images, by parallel threads.

        Raises:
            BenchError: one cannot be read, is implausibly large, or is not of the size of the first.
        """
        out = self._pixels.numpy()[self._done : self._done + len(files)]
        starts = range(0, len(files), _CHUNK)
        with _no_bombs(), ThreadPoolExecutor(os.cpu_count()) as pool:
            self._all_grey &= all(list(pool.map(lambda start: self._fill(out, files, start), starts)))
        self._done += len(files)

    def images(self) -> Tensor:
        """(n, C, H, W) uint8 of all that was added, C = 1 if all are greyscale, else 3."""
        pixels = self._pixels[: self._done]
        return pixels[:, :1].clone() if self._all_grey else pixels

    def _fill(self, out: npt.NDArray[np.uint8], files: Sequence[Path | Encoded], start: int) -> bool:
        """One chunk of `out`, (n, 3, H, W); whether all of its images are greyscale."""
        height, width = self._size
        all_grey = True
        for index in range(start, min(start + _CHUNK, len(files))):
            with _opened(files[index]) as image:
                if not self._resize and image.size != (width, height):
                    raise BenchError(
                        f"{files[index]} is {image.height}x{image.width}, but {self._first} is "
                        f"{height}x{width} (height x width); give `image_size` to resize all"
                    )
                all_grey &= image.mode in _GREY_MODES
                out[index] = _rgb(image, self._size).transpose(2, 0, 1)
        return all_grey


def decode(paths: Sequence[Path], image_size: tuple[int, int] | None = None) -> Tensor:
    """Images (n, C, H, W) uint8 of at least one file, C = 1 if all are greyscale, else 3. As `Decoder`."""
    decoder = Decoder(len(paths), paths[0], image_size)
    decoder.add(paths)
    return decoder.images()


@contextmanager
def _no_bombs() -> Iterator[None]:
    """An error where Pillow only warns: between one and two times its limit on the number of pixels."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _opened(file: Path | Encoded) -> Iterator["Image"]:
    """An image, its pixels not yet decoded; whatever fails while it is open is an error of its file."""
    from PIL import Image

    try:
        if isinstance(file, Path) and not file.is_file():  # opening a pipe would wait for its other end
            raise ValueError("it is no file")
        with Image.open(BytesIO(file.data) if isinstance(file, Encoded) else file) as image:
            yield image
    except BenchError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise BenchError(f"cannot read image {file}: {reason}") from error


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


def _size_of(file: Path | Encoded) -> tuple[int, int]:
    with _opened(file) as image:
        return image.height, image.width
