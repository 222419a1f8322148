"""Put other people's weights into a module, whatever stands in front of their names."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.weight_files import read_state, split_key

#: parts of names that wrappers put in at any depth: torch.compile, FSDP, activation checkpointing
_INSERTED = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
#: part that DataParallel puts in front of every name
_PARALLEL = "module."
#: differing names that a message shows of each kind
_SHOWN = 12


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return tensors by name, without what DataParallel and torch.compile put in front of all of them.

    Args:
        path: as for `read_state`, or ``FILE:KEY``.

    Raises:
        BenchError: as `read_state`.
    """
    found = read_state(*split_key(path))
    while True:
        for prefix in (_PARALLEL, *_INSERTED):
            if found and all(name.startswith(prefix) for name in found):
                found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
                break
        else:
            return found


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the tensors of a file into a module.

    Names are taken as they are if they fit; else without what wrappers put into them, and without the
    shortest common beginning under which all names of the module are found. Tensors that the module shares
    need one of their names. A `BenchWarning` names tensors that are left out. The folder of a model of
    transformers is read as its `from_pretrained` reads it.

    Args:
        module: receives the weights.
        path: as for `read_state`, or ``FILE:KEY``.

    Raises:
        BenchError: as `read_state`; names or shapes differ (they are listed), or two networks fit.
    """
    file, key = split_key(path)
    found, wanted = read_state(file, key), module.state_dict()
    fitted = _fitted(path, found, wanted)
    if fitted is None and file.is_dir() and hasattr(type(module), "from_pretrained"):
        fitted = _from_pretrained(module, file)
    if fitted is None:
        raise BenchError(f"{path} does not fit {type(module).__name__}; {_misfit(found, wanted)}")
    module.load_state_dict(fitted)


def differences(*, missing: set[str], unexpected: set[str], shapes: list[str] | None = None) -> str:
    """Return all that differs between the names wanted and found, in a line; empty if nothing does."""
    parts = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of another shape": shapes or []}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def _fitted(path: Path, found: dict[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the tensors under the names of the module; None if there is no way to name them all."""
    whole = _matched(found, wanted)
    if whole is not None:
        return whole
    plain = {_plain(name): tensor for name, tensor in found.items()}
    ours = {_plain(name): name for name in wanted}  # a module may itself be compiled or wrapped
    if len(plain) < len(found) or len(ours) < len(wanted):
        return None
    own = [ours, {name.removeprefix(_PARALLEL): full for name, full in ours.items()}]
    for names in own:
        fits = _under_prefixes(plain, {name: wanted[full] for name, full in names.items()})
        if len({prefix.count(".") for prefix in fits}) < len(fits):
            both = sorted(fits)
            raise BenchError(
                f"{path} has several networks that fit: {', '.join(both)}; name one as {path}:{both[0][:-1]}"
            )
        for prefix in sorted(fits, key=len):
            left = sorted(name for name in plain if not name.startswith(prefix))
            if left:
                warnings.warn(
                    f"{path}: names begin with {prefix!r}, which is removed; left out: "
                    f"{', '.join(left[:_SHOWN])}{', ...' * (len(left) > _SHOWN)}",
                    BenchWarning,
                    4,
                )
            return {names[name]: tensor for name, tensor in fits[prefix].items()}
    return None


def _plain(name: str) -> str:
    for part in _INSERTED:
        name = name.replace(part, "")
    return name


def _under_prefixes(found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Return every beginning of names under which all of a module are found, with the tensors."""
    fits = {}
    for prefix in _prefixes(found):
        own = {name.removeprefix(prefix): own for name, own in found.items() if name.startswith(prefix)}
        matched = _matched(own, wanted)
        if matched is not None:
            fits[prefix] = matched
    return fits


def _prefixes(names: Iterable[str]) -> set[str]:
    prefixes = {""}
    for name in names:
        parts = name.split(".")
        prefixes |= {".".join(parts[:depth]) + "." for depth in range(1, len(parts))}
    return prefixes


def _matched(found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the tensors of all names wanted; None if one is missing, misshapen or too many."""
    if not found.keys() <= wanted.keys():
        return None
    shared = {_storage(wanted[name]): name for name in found}
    matched = {}
    for name, tensor in wanted.items():
        source = name if name in found else shared.get(_storage(tensor))
        if source is None or not isinstance(tensor, Tensor) or found[source].shape != tensor.shape:
            return None
        matched[name] = found[source]
    return matched


def _storage(tensor: Any) -> object:
    """Return what two names of one tensor have in common."""
    if not isinstance(tensor, Tensor) or not tensor.numel() or tensor.is_meta:
        return object()
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> str:
    """Return the differences, after the beginning of names that leaves fewest."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): own for name, own in found.items() if name.startswith(prefix)}

    plain = {_plain(name): tensor for name, tensor in found.items()}
    found = plain if len(plain) == len(found) else found
    best = min(_prefixes(found), key=lambda prefix: (-len(under(prefix).keys() & wanted.keys()), len(prefix)))
    own = under(best)
    shapes = [
        f"{name} is {tuple(own[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(own.keys() & wanted.keys())
        if own[name].shape != wanted[name].shape
    ]
    text = differences(
        missing=wanted.keys() - own.keys(), unexpected=own.keys() - wanted.keys(), shapes=shapes
    )
    return f"without {best!r} in front of its names: {text}" if best else text


def _from_pretrained(module: nn.Module, folder: Path) -> dict[str, Tensor] | None:
    """Return the state dict of a model of transformers, whose files have other names in them."""
    kind: Any = type(module)
    safe = (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file()
    try:
        with torch.random.fork_rng(devices=[]):
            made, told = kind.from_pretrained(
                str(folder),
                config=getattr(module, "config", None),
                local_files_only=True,
                use_safetensors=safe,
                output_loading_info=True,
            )
    except Exception as error:  # somebody else's reader may raise anything
        raise BenchError(
            f"{folder} does not fit {kind.__name__}; its from_pretrained says: "
            f"{' '.join(str(error).split())[:200] or type(error).__name__}"
        ) from error
    if told.get("missing_keys") or told.get("mismatched_keys") or told.get("unexpected_keys"):
        return None
    state: dict[str, Tensor] = made.state_dict()
    return state
