"""Image files with 16 bits a channel, as 8 bits: v / 257, rounded, so that 0 and 65535 become 0 and 255.

Pillow opens such colour files as 8 bits and keeps the high byte alone; so they are decoded a second time with
the bytes swapped, which gives the low one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

#: modes of Pillow whose pixels are 16-bit numbers
_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
#: formats whose 32-bit mode "I" holds 16-bit numbers
_GREY_FORMATS = frozenset({"PNG", "PPM"})
_SWAPPED = {"16B": "16L", "16L": "16B"}


def is_deep(image: Any) -> bool:
    """Return whether a file that was just opened has 16 bits a channel."""
    if image.mode in _GREY or (image.mode == "I" and image.format in _GREY_FORMATS):
        return True
    return any(_raw_mode(tile).endswith(("16B", "16L", "16N")) for tile in getattr(image, "tile", ()))


def deep_pixels(image: Any, reopened: Any) -> npt.NDArray[np.uint16]:
    """Return (H, W) uint16 of a grey file, or (H, W, 3) of a colour one; transparency is dropped.

    Args:
        image: Pillow's, as it was opened, its pixels not yet decoded; `is_deep`.
        reopened: the same file, opened once more.

    Raises:
        ValueError: its 16 bits are laid out in an unknown way.
    """
    if image.mode in _GREY or image.mode == "I":
        return np.asarray(image).astype(np.uint16)
    if any(_raw_mode(tile) == "LA;16B" for tile in image.tile):
        reopened.tile = [_with(tile, "RGBA") for tile in reopened.tile]  # the four bytes of a pixel
        pixels = np.asarray(reopened)
        return _joined(pixels[..., 0], pixels[..., 1])
    for tile in image.tile:
        if _raw_mode(tile)[-3:] not in _SWAPPED:
            raise ValueError(f"its 16 bits are in the order {_raw_mode(tile)!r}; convert it to 8 bits")
    reopened.tile = [
        _with(tile, _raw_mode(tile)[:-3] + _SWAPPED[_raw_mode(tile)[-3:]]) for tile in reopened.tile
    ]
    return _joined(np.asarray(image)[..., :3], np.asarray(reopened)[..., :3])


def eight_bits(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return v / 257 of 16-bit numbers, rounded."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _raw_mode(tile: Any) -> str:
    """Return how the bytes of a tile are to be read, as ``RGB;16B``."""
    args = tile[3]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _with(tile: Any, raw: str) -> Any:
    args = tile[3]
    args = (raw, *args[1:]) if isinstance(args, tuple) else raw
    # tiles are named tuples since Pillow 11, and plain ones before
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)


def _joined(high: npt.NDArray[np.uint8], low: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    return high.astype(np.uint16) * np.uint16(256) + low
