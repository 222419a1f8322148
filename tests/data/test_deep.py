"""Image files with 16 bits a channel."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_sde.data import ImageDataset, load_dataset
from robustbench_sde.errors import BenchWarning

#: (4, 5, 3) uint16 over the whole range
VALUES = np.random.Generator(np.random.Philox(0)).integers(0, 65536, (4, 5, 3)).astype(np.uint16)
EXPECTED = np.rint(VALUES / 257).astype(np.uint8)


def png(values: np.ndarray) -> bytes:
    """A PNG file of (H, W, channels) with 16 bits a channel, which Pillow cannot write in colour."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(values: np.ndarray, order: str) -> bytes:
    """An RGB TIFF file of (H, W, 3) with 16 bits a channel, little ("<") or big (">") endian."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    entries = [
        (256, width),
        (257, height),
        (258, None),
        (259, 1),
        (262, 2),
        (273, None),
        (277, 3),
        (278, height),
    ]
    entries.append((279, len(data)))
    bits = 8 + 2 + 12 * len(entries) + 4
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, value in entries:
        if tag == 258:
            out += struct.pack(f"{order}HHII", tag, 3, channels, bits)
        else:
            out += struct.pack(f"{order}HHII", tag, 4, 1, bits + 6 if tag == 273 else value)
    return out + struct.pack(f"{order}I3H", 0, 16, 16, 16) + data


def ppm(values: np.ndarray) -> bytes:
    """A PPM or PGM file of (H, W, 3 or 1) with values up to 65535."""
    height, width, channels = values.shape
    kind = "P6" if channels == 3 else "P5"
    return f"{kind} {width} {height} 65535\n".encode() + values.astype(">u2").tobytes()


def pillow(values: np.ndarray, kind: str) -> bytes:
    """A grey file of (H, W, 1) as Pillow writes it."""
    file = io.BytesIO()
    Image.fromarray(values[..., 0]).save(file, kind)
    return file.getvalue()


ALPHA = np.full((4, 5, 1), 500, np.uint16)
FILES = {
    "rgb.png": (png(VALUES), EXPECTED),
    "rgba.png": (png(np.concatenate([VALUES, ALPHA], 2)), EXPECTED),
    "grey.png": (png(VALUES[..., :1]), EXPECTED[..., :1]),
    "grey-alpha.png": (png(np.concatenate([VALUES[..., :1], ALPHA], 2)), EXPECTED[..., :1]),
    "little.tif": (tiff(VALUES, "<"), EXPECTED),
    "big.tif": (tiff(VALUES, ">"), EXPECTED),
    "grey.tif": (pillow(VALUES[..., :1], "TIFF"), EXPECTED[..., :1]),
    "rgb.ppm": (ppm(VALUES), EXPECTED),
    "grey.pgm": (ppm(VALUES[..., :1]), EXPECTED[..., :1]),
}


def load(folder: Path, name: str, content: bytes) -> ImageDataset:
    for label in "ab":
        (folder / "test" / label).mkdir(parents=True)
        (folder / "test" / label / name).write_bytes(content)
    return load_dataset(f"image-folder:{folder}")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::robustbench_sde.errors.BenchWarning")
def test_all_sixteen_bits_count(tmp_path: Path, name: str):
    """Every pixel is v / 257, rounded, whatever the file's kind, order of bytes and channels."""
    content, expected = FILES[name]
    data = load(tmp_path, name, content)
    assert data.image_shape == (expected.shape[2], 4, 5)
    assert (data.images[1].numpy() == expected.transpose(2, 0, 1)).all()


def test_it_is_said_and_dark_ones_are_pointed_out(tmp_path: Path):
    """A warning says how 16 bits are read; 12-bit values come out dark, and it says so with the brightest."""
    with pytest.warns(
        BenchWarning, match=r"2 images of 16 bits.*high byte.*brightest pixel is 4095 of 65535"
    ):
        data = load(tmp_path, "dark.png", png(np.full((4, 5, 3), 4095, np.uint16)))
    assert data.images.unique().tolist() == [16]


def test_eight_bits_say_nothing(tmp_path: Path):
    """Usual files pass without a word."""
    file = io.BytesIO()
    Image.fromarray(EXPECTED).save(file, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            load(tmp_path, "x.png", file.getvalue()).images[0].numpy() == EXPECTED.transpose(2, 0, 1)
        ).all()
