"""Image files, or their bytes, as one tensor."""

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
from robustbench_sde.data.deep import deep_pixels, eight_bits, is_deep
from robustbench_sde.data.framing import AS_IS, Framing
from robustbench_sde.errors import BenchError, BenchWarning, counted
from robustbench_sde.limits import usable_processors

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY_MODES = frozenset({"1", "L", "LA"})
#: modes of 8 bits; deeper pixels that are not of 16 bits (float, 32 bit) are refused
_COLOUR_MODES = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"})
#: tag of EXIF that says how an image is to be turned
_ORIENTATION = 0x0112
#: 16-bit images without a pixel this bright are of fewer bits
_BRIGHT = 1 << 15
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


@dataclass(frozen=True)
class Reading:
    """How files become pixels."""

    framing: Framing = AS_IS
    #: whether images are turned as their EXIF orientation says
    turned: bool = False
    #: Pillow's mode to convert every image to; None keeps its own
    mode: str | None = None
    #: 3 gives greyscale images three equal channels; None goes by the images
    channels: int | None = None


class Decoder:
    """Fills one tensor with images, a batch of files at a time.

    Args:
        count: how many images will come.
        first: one of them; without a framing, all must have its size.
        reading: how files become pixels.

    Raises:
        BenchError: `first` cannot be read, or memory cannot hold so many images.
    """

    def __init__(self, count: int, first: Path | Encoded, reading: Reading | None = None) -> None:
        self._first, self._reading = first, reading or Reading()
        self._done, self._all_grey = 0, self._reading.channels != 3
        self._deep, self._brightest = 0, 0
        with _no_bombs(), _opened(first) as image:
            self._size = self._reading.framing.framed(*_turned_size(image, self._reading))
        try:
            self._pixels = allocate(count, 3, *self._size)
        except BenchError as error:
            raise BenchError(f"{error}; give a smaller `image_size`") from None

    def add(self, files: Sequence[Path | Encoded]) -> None:
        """Decode the next images, by parallel threads.

        Raises:
            BenchError: one cannot be read, is implausibly large, or does not get the size of the first.
        """
        out = self._pixels.numpy()[self._done : self._done + len(files)]
        starts = range(0, len(files), _CHUNK)
        with _no_bombs(), ThreadPoolExecutor(usable_processors()) as pool:
            for grey, deep, brightest in pool.map(lambda start: self._fill(out, files, start), starts):
                self._all_grey &= grey
                self._deep += deep
                self._brightest = max(self._brightest, brightest)
        self._done += len(files)

    def images(self) -> Tensor:
        """Return (n, C, H, W) uint8 of all that was added, C = 1 if all are greyscale, else 3.

        A `BenchWarning` says how files of 16 bits a channel were read.
        """
        pixels = self._pixels[: self._done]
        if self._deep:
            hint = (
                f"; the brightest pixel is {self._brightest} of 65535: scale them to 16 bits before saving"
                if self._brightest < _BRIGHT
                else ""
            )
            warnings.warn(
                f"{counted(self._deep, 'image')} of 16 bits a channel, as {self._first}: read as v / 257 "
                "(torchvision's loader cuts colours to their high byte and clips greys at 255)" + hint,
                BenchWarning,
                4,
            )
        return pixels[:, :1].clone() if self._all_grey else pixels

    def _fill(
        self, out: npt.NDArray[np.uint8], files: Sequence[Path | Encoded], start: int
    ) -> tuple[bool, int, int]:
        """Fill one chunk of `out`, (n, 3, H, W).

        Returns:
            Whether all of its images are greyscale, how many have 16 bits, and the brightest of these.
        """
        height, width = self._size
        all_grey, deep, brightest = True, 0, 0
        for index in range(start, min(start + _CHUNK, len(files))):
            with _opened(files[index]) as opened:
                image, most = _eight_bit_image(opened, files[index])
                deep += most is not None
                brightest = max(brightest, most or 0)
                image = self._reading.framing.apply(_as_asked(image, opened, self._reading))
                if image.size != (width, height):
                    raise BenchError(
                        f"{files[index]} is {image.height}x{image.width}, but {self._first} is "
                        f"{height}x{width} (height x width); give `image_size`, or `resize` and `crop`"
                    )
                all_grey &= image.mode in _GREY_MODES
                out[index] = _rgb(image).transpose(2, 0, 1)
        return all_grey, deep, brightest


def decode(paths: Sequence[Path], reading: Reading | None = None) -> Tensor:
    """Return images (n, C, H, W) uint8 of at least one file, C = 1 if all are greyscale, else 3."""
    decoder = Decoder(len(paths), paths[0], reading)
    decoder.add(paths)
    return decoder.images()


@contextmanager
def _no_bombs() -> Iterator[None]:
    """Make an error of Pillow's warning between one and two times its limit on the number of pixels."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _opened(file: Path | Encoded) -> Iterator["Image"]:
    """Open an image, its pixels not yet decoded; whatever fails while it is open is an error of its file."""
    try:
        if isinstance(file, Path) and not file.is_file():  # opening a pipe would wait for its other end
            raise ValueError("it is no file")
        with _image(file) as image:
            yield image
    except BenchError as error:
        if str(file) in str(error):
            raise
        raise BenchError(f"{file}: {error}") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise BenchError(f"cannot read image {file}: {reason}") from error


def _image(file: Path | Encoded) -> "Image":
    from PIL import Image

    return Image.open(BytesIO(file.data) if isinstance(file, Encoded) else file)


def _eight_bit_image(opened: "Image", file: Path | Encoded) -> tuple["Image", int | None]:
    """Return an image of 8 bits a channel, and the largest value if it had 16."""
    from PIL import Image

    if is_deep(opened):
        with _image(file) as reopened:
            values = deep_pixels(opened, reopened)
        return Image.fromarray(eight_bits(values)), int(values.max(initial=0))
    if opened.mode not in _GREY_MODES | _COLOUR_MODES:
        raise ValueError(f"its pixels are {opened.mode!r}; convert it to 8-bit greyscale or RGB")
    return opened, None


def _as_asked(image: "Image", opened: "Image", reading: Reading) -> "Image":
    """Return the image turned by the orientation in the file, and in the mode asked for."""
    from PIL.Image import Transpose

    if reading.turned:
        method = {
            2: Transpose.FLIP_LEFT_RIGHT,
            3: Transpose.ROTATE_180,
            4: Transpose.FLIP_TOP_BOTTOM,
            5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270,
            7: Transpose.TRANSVERSE,
            8: Transpose.ROTATE_90,
        }.get(opened.getexif().get(_ORIENTATION, 1))
        image = image if method is None else image.transpose(method)
    if reading.mode is not None and image.mode != reading.mode:
        image = image.convert(reading.mode)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode in _GREY_MODES else "RGB")


def _rgb(image: "Image") -> npt.NDArray[np.uint8]:
    """Return (H, W, 3) uint8; a greyscale image has three equal channels."""
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _turned_size(image: "Image", reading: Reading) -> tuple[int, int]:
    """Return (H, W) of an image once it is turned."""
    turned = reading.turned and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.width, image.height) if turned else (image.height, image.width)
