"""Tensors and metadata in safetensors files. Reading executes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(path: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str]) -> None:
    """A safetensors file, atomically."""
    from safetensors.torch import save_file

    with atomic_write(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # it wraps the OSError of a full disk
            raise OSError(str(error)) from error


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        BenchError: it is missing, truncated or not safetensors.
    """
    with _opened(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, whose tensors stay on disk; torch is not imported.

    Raises:
        BenchError: it is missing, truncated or not safetensors.
    """
    with _opened(path, framework="np") as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    if not path.is_file():
        raise BenchError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise BenchError(f"{path} is not a whole safetensors file ({error})") from error
