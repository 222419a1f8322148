"""Weights out of other people's files. Nothing in a file is executed: tensors are all that is read."""

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.tensors import read_tensors

#: What training scripts put a state dict under, beside epochs and optimisers.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
#: What DataParallel and torch.compile put in front of every name.
_PREFIXES = ("module.", "_orig_mod.")
#: In a Hugging Face folder, the preferred first.
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name: ``.safetensors``, a state dict in ``.pt`` or ``.pth``, or a Hugging Face folder.

    Prefixes of DataParallel and torch.compile are taken off.

    Raises:
        BenchError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    file = _in_folder(path) if path.is_dir() else path
    if not file.is_file():
        raise BenchError(f"{path} does not exist")
    found = read_tensors(file)[0] if file.suffix == ".safetensors" else _state_dict(file, _unpickled(file))
    for prefix in _PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the tensors of a file into a module.

    Raises:
        BenchError: as `read_weights`; or names or shapes differ: all of them are listed.
    """
    found, wanted = read_weights(path), module.state_dict()
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name].shape != wanted[name].shape
    ]
    problem = differences(
        missing=wanted.keys() - found.keys(), unexpected=found.keys() - wanted.keys(), shapes=shapes
    )
    if problem:
        raise BenchError(f"{path} does not fit {type(module).__name__}; {problem}")
    module.load_state_dict(found)


def differences(*, missing: set[str], unexpected: set[str], shapes: list[str] | None = None) -> str:
    """All that differs between the names wanted and found, in a line; empty where nothing does."""
    parts = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of another shape": shapes or []}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def _in_folder(folder: Path) -> Path:
    for name in _IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    sharded = " (weights in several files are not read)" if list(folder.glob("*.index.json")) else ""
    raise BenchError(f"{folder} has no {' or '.join(_IN_FOLDERS)}{sharded}")


def _unpickled(path: Path) -> object:
    # Namespace: the options that many scripts save beside the weights; it only holds values
    with (
        warnings.catch_warnings(action="ignore"),  # what is wrong with the file is said once, below
        torch.serialization.safe_globals([argparse.Namespace]),
    ):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # its readers raise nearly anything on damaged files
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BenchError(
                f"{path} is not a file of tensors that torch can read safely: {reason}"
            ) from error


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        inside = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        for mapping in (content, *inside):
            if mapping and all(isinstance(value, Tensor) for value in mapping.values()):
                return {str(name): tensor for name, tensor in mapping.items()}
    raise BenchError(f"{path} is not a state dict; save model.state_dict()")
