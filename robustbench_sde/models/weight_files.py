"""Read weights that other people's code has written. Nothing is executed: tensors alone are read."""

import argparse
import json
import pathlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.storage.tensors import read_tensors

#: keys under which training scripts put a state dict, beside epochs and optimisers; the preferred first
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
#: files of a Hugging Face folder, the preferred first
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")
_INDEX = "model.safetensors.index.json"
#: values that scripts save beside the weights: options, paths, numbers of numpy
_HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    # the function that rebuilds a number; files of numpy 1 and 2 call it by different names
    (type(np.float64(0)).__reduce__(np.float64(0))[0], "numpy.core.multiarray.scalar"),
    (type(np.float64(0)).__reduce__(np.float64(0))[0], "numpy._core.multiarray.scalar"),
]
#: names of torch's message about a file that it does not open safely
_GLOBAL = re.compile(r"(?:GLOBAL|class|function) ([\w.]+\.[\w.]+)")


def split_key(path: Path) -> tuple[Path, str]:
    """Return file and key of ``FILE:KEY``; the key is empty where there is none, or the whole is a file."""
    file, colon, key = str(path).rpartition(":")
    return (Path(file), key) if colon and file and not path.exists() and Path(file).exists() else (path, "")


def read_state(path: Path, key: str = "") -> dict[str, Tensor]:
    """Return the tensors of a file or folder by the names that they have there.

    Args:
        path: ``.safetensors``, a state dict in ``.pt``, ``.pth`` or ``.ckpt``, or a Hugging Face folder, also
            with its weights in several files.
        key: key of one of several state dicts in the file (``state_dict_ema``), or the beginning of names.

    Raises:
        BenchError: the file is missing, damaged or of another kind; says what is in it and what to do.
    """
    if path.is_dir():
        found = _folder(path)
    elif not path.is_file():
        raise BenchError(f"{path} does not exist")
    elif path.suffix == ".safetensors":
        found = read_tensors(path)[0]
    else:
        _check_archive(path)
        return _state_dict(path, _unpickled(path), key)
    return _beginning(path, found, key) if key else found


def _folder(folder: Path) -> dict[str, Tensor]:
    for name in _IN_FOLDERS:
        if (folder / name).is_file():
            return read_state(folder / name)
    if (folder / _INDEX).is_file():
        return _shards(folder)
    if (folder / ".metadata").is_file() or list(folder.glob("*.distcp")):
        raise BenchError(
            f"{folder} is a distributed checkpoint of torch (FSDP, DCP); make one file of it: "
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, FILE)"
        )
    held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise BenchError(f"{folder} has no {' or '.join(_IN_FOLDERS)}; it holds {held}")


def _shards(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names."""
    index = folder / _INDEX
    try:
        places = {str(name): str(file) for name, file in json.loads(index.read_text())["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{index} is not an index of weights ({type(error).__name__})") from error
    found: dict[str, Tensor] = {}
    for file in sorted(set(places.values())):
        shard = folder / Path(file).name
        if not shard.is_file():
            raise BenchError(f"{shard} is missing, which {index.name} names; download it")
        found |= read_tensors(shard)[0]
    lacking = sorted(places.keys() - found.keys())
    if lacking:
        raise BenchError(f"{folder}: its files have no {lacking[0]}, which {index.name} names")
    return found


def _check_archive(path: Path) -> None:
    """Raise BenchError for archives of whole programs."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # whatever it is, it is no such archive
    if "constants.pkl" in names:
        raise BenchError(
            f"{path} is a TorchScript program, not weights: give `module` a function that returns "
            "torch.jit.load of it"
        )
    if names & {"archive_format", "serialized_exported_program.json"}:
        raise BenchError(
            f"{path} is an exported program, not weights: give `module` a function that returns "
            "torch.export.load(FILE).module()"
        )


def _unpickled(path: Path) -> object:
    with (
        warnings.catch_warnings(action="ignore"),  # the fault of the file is told once, below
        torch.serialization.safe_globals(_HARMLESS),
    ):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # its readers raise nearly anything on damaged files
            text = str(error)
            found = _GLOBAL.search(text)
            if found and "weights_only" in text.lower().replace(" ", "_"):
                reason = (
                    f"it holds a Python object, {found[1]}, which is not opened; if you trust it, load it "
                    "and save model.state_dict()"
                )
            else:
                reason = (text.splitlines() or [""])[0][:200]
                if not re.search("[a-z]{3}", reason):  # like the 105 of a KeyError
                    reason = "it is damaged, or something else"
            raise BenchError(
                f"{path} is not a file of tensors that torch can read safely: {reason}"
            ) from error


def _state_dict(path: Path, content: object, key: str) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise BenchError(
            f"{path} holds a {type(content).__name__}, not a state dict; save model.state_dict()"
        )
    if _is_state(content):
        found = _named(content)
        return _beginning(path, found, key) if key else found
    inside = {str(name): value for name, value in content.items() if _is_state(value)}
    if key:
        if key in inside:
            return _named(inside[key])
        if len(inside) == 1:
            return _beginning(path, _named(next(iter(inside.values()))), key)
        raise BenchError(f"{path} has no state dict {key!r}; it has {', '.join(inside) or 'none'}")
    usual = [name for name in _WRAPPERS if name in inside]
    taken = usual[0] if usual else next(iter(inside)) if len(inside) == 1 else None
    if taken is None:
        keys = ", ".join(map(str, content)) or "nothing"
        if inside:
            raise BenchError(f"{path} has several state dicts: {', '.join(inside)}; name one as {path}:KEY")
        raise BenchError(f"{path} is not a state dict; it holds {keys[:200]}; save model.state_dict()")
    others = [name for name in inside if name != taken]
    if others:
        warnings.warn(
            f"{path}: {taken} is taken; the file has {', '.join(others)} too, as {path.name}:{others[0]}",
            BenchWarning,
            3,
        )
    return _named(inside[taken])


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping) and bool(value) and all(isinstance(own, Tensor) for own in value.values())
    )


def _named(state: Mapping[object, Tensor]) -> dict[str, Tensor]:
    return {str(name): tensor for name, tensor in state.items()}


def _beginning(path: Path, found: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a key, without it."""
    start = key.rstrip(".") + "."
    chosen = {name.removeprefix(start): tensor for name, tensor in found.items() if name.startswith(start)}
    if not chosen:
        firsts = sorted({name.partition(".")[0] for name in found})
        raise BenchError(
            f"{path} has no state dict and no names under {key!r}; they begin with {', '.join(firsts[:8])}"
        )
    return chosen
