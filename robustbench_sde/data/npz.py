"""Read anybody's arrays: an ``.npz`` archive with ``x`` and ``y``, or ``x_train``, ``y_train`` and so on.

Headers are checked before anything is read, and images are read a piece at a time: what is held is the 8-bit
images and one piece. Nothing unpickles.
"""

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustbench_sde.data.dataset import MOST_CLASSES, ImageDataset, allocate
from robustbench_sde.errors import BenchError, BenchWarning

#: bytes that are read at a time
_PIECE = 1 << 24
#: bytes of class names that are believed
_NAMES = 1 << 24
#: what numpy and zipfile raise on files that are damaged or something else
_FILE_ERRORS = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_CHANNELS = (1, 3)
_LABELS = ("y", "y_train", "y_test")
_MEDMNIST_LABELS = ("train_labels", "val_labels", "test_labels")


def load_npz(path: Path, split: str) -> ImageDataset:
    """Load one split of an ``.npz`` archive; ids are places in its arrays.

    The test split is ``x_test`` and ``y_test``, else ``x`` and ``y``; the training split is ``x_train`` and
    ``y_train``; MedMNIST's ``test_images``, ``test_labels`` and siblings are taken too. Other arrays are not
    looked at. Images are uint8, or floats in [0, 1], which are rounded to 8 bits (with a `BenchWarning`
    where that changes them), of shape (n, H, W), (n, H, W, C) or (n, C, H, W) with C 1 or 3. Labels are whole
    numbers (n,) or (n, 1) from 0, or one-hot (n, classes). There are as many classes as names in
    ``class_names``, else as the largest label of all splits says.

    Raises:
        BenchError: the file is missing, damaged or no archive, an array is missing, or its type, shape or
            values are none of those above.
    """
    with _opened(path) as arrays:
        x, y = _of_split(arrays, path, split)
        count = arrays[x].shape[0] if arrays[x].shape else 0
        labels = {name: array.labels() for name, array in arrays.items() if name in _siblings(y)}
        if len(labels[y]) != count:
            raise BenchError(f"{path}: {x} has {count} images and {y} has {len(labels[y])} labels")
        largest = max(int(values.max(initial=0)) for values in labels.values())
        classes = max(1 + largest, *(arrays[name].columns for name in labels), 0)
        if classes > MOST_CLASSES:
            raise BenchError(f"{path} has the label {classes - 1}; there can be {MOST_CLASSES} classes")
        names = arrays["class_names"].texts() if "class_names" in arrays else map(str, range(classes))
        images = arrays[x].images()
        return ImageDataset.whole(
            f"npz:{path.stem}", split, images, torch.from_numpy(labels[y]), tuple(names)
        )


@dataclass(frozen=True)
class _Array:
    """One array of an archive, its values not yet read."""

    #: file and name, for errors
    label: str
    archive: zipfile.ZipFile
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    #: whether the first axis varies fastest
    fortran: bool

    @classmethod
    def of(cls, archive: zipfile.ZipFile, path: Path, member: str) -> "_Array":
        """Read the header; whether the values can be read is checked when they are."""
        with archive.open(member) as file:
            shape, fortran, dtype = _read_header(file)
        return cls(
            f"{path}: {member.removesuffix('.npy')}",
            archive,
            member,
            shape,
            dtype,
            fortran and len(shape) > 1,
        )

    @property
    def columns(self) -> int:
        """Values of a row of two dimensions; 0 of another array."""
        return self.shape[1] if len(self.shape) == 2 else 0

    def check(self) -> None:
        """Raise BenchError unless the values can be read as a stream of numbers or texts."""
        if self.dtype.hasobject:
            kind = "text: np.array(names, dtype=str)" if "names" in self.member else "numbers"
            raise BenchError(f"{self.label} holds Python objects, which are not opened; save it as {kind}")
        if self.fortran:
            raise BenchError(f"{self.label} is in Fortran order; save np.ascontiguousarray of it")

    def pieces(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the values, in order, as arrays of whole rows of about `_PIECE` bytes."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = max(1, _PIECE // max(1, row))
        with self.archive.open(self.member) as file:
            _read_header(file)
            for start in range(0, self.shape[0], rows):
                taken = min(rows, self.shape[0] - start)
                data = file.read(taken * row)
                if len(data) < taken * row:
                    raise ValueError(f"it ends after {start * row + len(data)} bytes of values")
                yield np.frombuffer(data, self.dtype).reshape(taken, *self.shape[1:])
            file.read(1)  # at its end zipfile compares the checksum

    def labels(self) -> npt.NDArray[np.int64]:
        """Return (n,) int64, at least 0."""
        self.check()
        if self.dtype.kind not in "iubf":
            raise BenchError(f"{self.label} is {self.dtype}; labels are whole numbers")
        if len(self.shape) == 2 and self.shape[1] > 1:
            return self._one_hot()
        if self.shape[1:] not in ((), (1,)) or not self.shape:
            raise BenchError(f"{self.label} has shape {self.shape}; labels are (n,)")
        values = np.concatenate([np.empty(0), *(piece.ravel() for piece in self.pieces())])
        if not (np.isfinite(values).all() and (values == np.floor(values)).all() and (values >= 0).all()):
            raise BenchError(f"{self.label} has values that are not 0, 1, 2, ...; labels count from 0")
        return values.astype(np.int64)

    def _one_hot(self) -> npt.NDArray[np.int64]:
        """Return the places of the ones. Raises BenchError unless each row is one 1 and else 0."""
        labels = [np.empty(0, np.int64)]
        done = 0
        for piece in self.pieces():
            wrong = ~(((piece == 0) | (piece == 1)).all(1) & (piece.sum(1, dtype=np.float64) == 1))
            if wrong.any():
                row = int(wrong.argmax())
                some = ", ".join(f"{value:g}" for value in piece[row][:8])
                raise BenchError(
                    f"{self.label} has shape {self.shape}, and row {done + row} is no one-hot class ({some}"
                    f"{', ...' * (self.shape[1] > 8)}): several labels an image, or scores; a "
                    "classifier needs one class for each image"
                )
            labels.append(piece.argmax(1).astype(np.int64))
            done += len(piece)
        return np.concatenate(labels)

    def texts(self) -> tuple[str, ...]:
        """Return strings (k,)."""
        self.check()
        if len(self.shape) != 1 or self.dtype.kind != "U" or self.shape[0] * self.dtype.itemsize > _NAMES:
            raise BenchError(f"{self.label} is {self.dtype} {self.shape}; names are strings (classes,)")
        return tuple(str(name) for piece in self.pieces() for name in piece)

    def images(self) -> Tensor:
        """Return (n, C, H, W) uint8."""
        self.check()
        last = _channels_last(self.label, self.shape)
        if self.dtype != np.uint8 and self.dtype.kind != "f":
            raise BenchError(f"{self.label} is {self.dtype}; images are uint8 in 0..255 or floats in [0, 1]")
        shape = self.shape if len(self.shape) == 4 else (*self.shape, 1)
        count, height, width, channels = shape if last else (shape[0], *shape[2:], shape[1])
        images = allocate(count, channels, height, width)
        done, exact = 0, True
        for piece in self.pieces():
            values = piece.reshape(len(piece), *shape[1:])
            if self.dtype.kind == "f":
                values, kept = _eight_bit(self.label, values)
                exact &= kept
            images.numpy()[done : done + len(values)] = values.transpose(0, 3, 1, 2) if last else values
            done += len(values)
        if not exact:
            warnings.warn(
                f"{self.label}: floats between the 256 levels of 8 bits were rounded", BenchWarning, 4
            )
        return images


def _eight_bit(label: str, values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return the nearest of 256 levels, and whether the floats were levels to their own precision."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not (low >= 0 and high <= 1):  # not a number fails this too
        hint = (
            "save 0..255 as uint8" if low >= 0 and 1 < high <= 255 else "undo a normalisation before saving"
        )
        raise BenchError(f"{label} has floats from {low:g} to {high:g}; they must be in [0, 1]: {hint}")
    levels = np.rint(values.astype(np.float64) * 255)
    exact = np.abs(levels / 255 - values).max(initial=0) <= np.finfo(values.dtype).eps
    return levels.astype(np.uint8), bool(exact)


def _channels_last(label: str, shape: tuple[int, ...]) -> bool:
    """Return whether the images are (n, H, W, C) or (n, H, W) rather than (n, C, H, W)."""
    if len(shape) == 3:
        return True
    first, last = (len(shape) == 4 and shape[axis] in _CHANNELS for axis in (1, 3))
    if first == last:
        reason = "it may be read in two ways" if first else "images have 1 or 3 channels"
        raise BenchError(f"{label} has shape {shape}, not (n, H, W, C), (n, C, H, W) or (n, H, W): {reason}")
    return last


def _of_split(arrays: dict[str, _Array], path: Path, split: str) -> tuple[str, str]:
    """Return the names of images and labels."""
    medmnist = f"{split}_images", f"{split}_labels"
    if f"x_{split}" not in arrays and "x" not in arrays and medmnist[0] in arrays:
        names = medmnist
    else:
        suffix = "" if split == "test" and "x" in arrays and "x_test" not in arrays else f"_{split}"
        names = f"x{suffix}", f"y{suffix}"
    for name in names:
        if name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            wanted = "x and y, or x_test and y_test" if split == "test" else "x_train and y_train"
            raise BenchError(f"{path} has no {name}; it holds {held}, and the {split} split is {wanted}")
    return names


def _siblings(labels: str) -> tuple[str, ...]:
    """Return the names of the labels of all splits beside these."""
    return _MEDMNIST_LABELS if labels in _MEDMNIST_LABELS else _LABELS


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, _Array]]:
    """Yield the arrays of an archive by name; whatever fails while it is open is an error of the file."""
    if not path.is_file():
        raise BenchError(f"{path} does not exist; npz:FILE is an .npz archive with arrays x and y")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.namelist() if member.endswith(".npy")]
            yield {member.removesuffix(".npy"): _Array.of(archive, path, member) for member in members}
    except _FILE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BenchError(f"{path} is not a whole .npz archive ({reason})") from error


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether in Fortran order, and type. Raises ValueError for another kind of file."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"version {version} of .npy is unknown")
    return readers[version](file)
