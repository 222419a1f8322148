"""Tensors and metadata in safetensors files. Reading executes nothing."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.files import atomic_write


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, atomically."""
    with atomic_write(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # it wraps the OSError of a full disk
            raise OSError(str(error)) from error


def read_tensors(
    path: Path, names: tuple[str, ...] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (all, or those named) and metadata of a safetensors file.

    Raises:
        BenchError: it is missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise BenchError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            wanted = file.keys() if names is None else names
            return {name: file.get_tensor(name) for name in wanted}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise BenchError(f"{path} is not a whole safetensors file ({error})") from error
