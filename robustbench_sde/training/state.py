"""Keep what an epoch of a training hands to the next, in `<name>.state.safetensors` until the end."""

import hashlib
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.tensors import read_tensors, write_tensors
from robustbench_sde.training.config import TrainConfig
from robustbench_sde.training.history import Epoch, from_json, to_json


@dataclass(frozen=True)
class Identity:
    """Identity of the training that a state belongs to."""

    config: TrainConfig
    #: fingerprint of the training data
    fingerprint: str

    def __str__(self) -> str:
        return json.dumps([self.config.model_dump(), self.fingerprint], sort_keys=True)

    def differences(self, text: str) -> str:
        """Say in which options the training that `text` names differs: `` `epochs` 30 -> 60 ``.

        Options that the text lacks, being older, have their defaults. Empty if nothing differs.
        """
        try:
            options, fingerprint = json.loads(text)
            theirs = TrainConfig.model_validate(options).model_dump()
        except (ValueError, TypeError):  # the former also of pydantic
            return "its options cannot be read"
        ours = self.config.model_dump()
        found = [
            f"`{name}` {_plain(theirs[name])} -> {_plain(ours[name])}"
            for name in ours
            if ours[name] != theirs[name]
        ]
        return ", ".join([*found, *(["other images in `data`"] if fingerprint != self.fingerprint else [])])


@dataclass
class State:
    """State that an epoch hands to the next; everything else is keyed."""

    weights: dict[str, Tensor]
    momenta: dict[str, Tensor] = field(default_factory=dict)
    #: number of epochs that are done
    epoch: int = 0
    seconds: float = 0.0
    #: mean loss of the last epoch
    loss: float = math.nan
    #: rows of the epochs that are done; a state of an earlier version has none
    history: list[Epoch] = field(default_factory=list)
    #: text that names this training and no other, for trackers
    key: str = ""


def new_key(identity: Identity) -> str:
    """Return a text that no other training has, even one with equal options."""
    return hashlib.sha256(f"{identity} {time.time_ns()}".encode()).hexdigest()[:16]


def state_of(path: Path) -> Path:
    """Return the path of the state of an unfinished training of the checkpoint `path`."""
    return path.with_name(f"{path.stem}.state.safetensors")


def write_state(path: Path, state: State, identity: Identity) -> None:
    """Write a state atomically.

    Raises:
        BenchError: it cannot be written.
    """
    tensors = {f"weights.{name}": tensor for name, tensor in state.weights.items()}
    tensors |= {f"momenta.{name}": tensor for name, tensor in state.momenta.items()}
    metadata = {"identity": str(identity), "epoch": state.epoch, "seconds": state.seconds, "loss": state.loss}
    metadata |= {"history": to_json(state.history), "key": state.key}
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(path, cpu, {name: str(value) for name, value in metadata.items()})


def read_state(path: Path, identity: Identity) -> State:
    """Read what `write_state` has written.

    Raises:
        BenchError: the file is damaged, or belongs to another training; names the options that differ.
    """
    tensors, metadata = read_tensors(path)
    differences = identity.differences(metadata.get("identity", ""))
    if differences:
        raise BenchError(
            f"{path} belongs to another training: {differences}; "
            "give the same options, or `force` instead of `resume` to start anew"
        )
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "momenta": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    return State(
        weights=parts["weights"],
        momenta=parts["momenta"],
        epoch=int(metadata["epoch"]),
        seconds=float(metadata["seconds"]),
        loss=float(metadata["loss"]),
        history=from_json(metadata.get("history", "")),
        key=metadata.get("key", "") or new_key(identity),
    )


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
