"""Perturbed images in a file, ours or anybody's. Nothing unpickles."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from robustbench_sde.choices import ImageFormat
from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.storage.files import atomic_write

#: endings of the files
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)

_ABOUT = "sde-bench"
#: what people call the images, the first is ours
_NAMES = ("x", "x_adv", "images", "arr_0")
_ERRORS = (
    *(OSError, ValueError, EOFError, MemoryError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, SafetensorError),
    TypeError,  # bfloat16, which numpy does not know
)


@dataclass(frozen=True, eq=False)
class PerturbedImages:
    """Images, and what is known about them.

    Raises:
        BenchError: the arrays do not belong together.
    """

    #: (n, C, H, W) or (n, H, W, C), uint8 or floats in [0, 1]
    images: npt.NDArray[Any]
    #: (n,) int64: places in the split; None where nobody has said
    ids: npt.NDArray[np.int64] | None = None
    #: (n,) int64 true classes; None where nobody has said
    labels: npt.NDArray[np.int64] | None = None
    #: what made them of what: dataset, fingerprint, norm, eps, perturbation; empty in other people's files
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or not len(self.images) or self.images.dtype.kind not in "uf":
            raise BenchError(
                f"images are {self.images.dtype} {self.images.shape}, not uint8 or floats (n, C, H, W)"
            )
        if self.images.dtype.kind == "u" and self.images.dtype != np.uint8:
            raise BenchError(f"images are {self.images.dtype}; they must be uint8, or floats in [0, 1]")
        for name, values in (("ids", self.ids), ("labels", self.labels)):
            if values is not None and (values.shape != (len(self.images),) or values.dtype.kind not in "iu"):
                wanted = f"({len(self.images)},) whole numbers"
                raise BenchError(f"{name} are {values.dtype} {values.shape}; they must be {wanted}")

    def write(self, path: Path) -> None:
        """An ``.npz`` archive or a ``.safetensors`` file, by the ending of `path`, atomically."""
        arrays = {"x": self.images, "ids": self.ids, "y": self.labels}
        held = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
        about = json.dumps(dict(self.about))
        with atomic_write(path) as temporary:
            if path.suffix == ".npz":
                with temporary.open("wb") as file:
                    np.savez(file, about=np.array(about), **held)  # type: ignore[arg-type]
            else:
                temporary.write_bytes(safetensors.numpy.save(held, {_ABOUT: about}))

    @classmethod
    def read(cls, path: Path) -> "PerturbedImages":
        """The images of a ``.npz``, ``.npy`` or ``.safetensors`` file.

        Raises:
            BenchError: it is missing, damaged, of another kind, or has no images.
        """
        if not path.is_file():
            raise BenchError(f"{path} does not exist")
        try:
            arrays, about = _read(path)
            name = next((name for name in _NAMES if name in arrays), None)
            if name is None:
                held = ", ".join(sorted(arrays)) or "nothing"
                raise BenchError(f"it holds {held}; images are called {' or '.join(_NAMES)}")
            ids, labels = (
                None if found is None else found.astype(np.int64) if found.dtype.kind in "iu" else found
                for found in (arrays.get("ids"), arrays.get("y"))
            )
            return cls(arrays[name], ids, labels, about)
        except (*_ERRORS, BenchError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BenchError(f"{path}: no images can be read from it ({reason})") from error


def check_image_format(name: str) -> ImageFormat:
    """`name` as a format. Raises BenchError if it is none."""
    if name not in IMAGE_FORMATS:
        raise unknown_name("image format", name, IMAGE_FORMATS)
    return name


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as file:
            about = (file.metadata() or {}).get(_ABOUT, "{}")
            return {name: file.get_tensor(name) for name in file.keys()}, _mapping(about)  # noqa: SIM118
    if path.suffix not in (".npz", ".npy"):
        raise BenchError("its name must end in .npz, .npy or .safetensors")
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray) != (path.suffix == ".npy"):
        raise BenchError(f"it is {'no' if path.suffix == '.npz' else 'an'} archive of arrays: rename it")
    if path.suffix == ".npy":
        return {"x": loaded}, {}
    with loaded:
        arrays = {name: loaded[name] for name in (*_NAMES, "ids", "y", "about") if name in loaded.files}
    about = arrays.pop("about", np.array("{}"))
    return arrays, _mapping(str(about)) if about.shape == () and about.dtype.kind == "U" else {}


def _mapping(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
