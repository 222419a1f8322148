"""Keep the course of a training, a row an epoch: in the state, in `<name>.log.csv`, in the checkpoint."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sde.storage.files import atomic_write

#: largest number of epochs in the header of a checkpoint; of longer trainings evenly spaced ones are kept
MOST_EPOCHS = 1000


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training."""

    #: number of the epoch, from 1
    epoch: int
    #: mean loss over the batches, in training mode
    loss: float
    #: share of the augmented training images that were right, in [0, 1]
    accuracy: float
    #: learning rate of the last batch
    lr: float
    #: noise scale at the end, of several terms the root of the sum of squares; 0 without noise
    sigma: float
    seconds: float


NAMES = tuple(field.name for field in fields(Epoch))


def log_of(path: Path) -> Path:
    """Return the path of the log of a training that writes the checkpoint `path`."""
    return path.with_name(f"{path.stem}.log.csv")


def write_log(path: Path, history: Sequence[Epoch]) -> None:
    """Write the log beside a checkpoint, atomically and as a whole, so that no epoch is in it twice.

    Without an epoch there is no log, and that of an earlier training is removed.

    Raises:
        BenchError: it cannot be written.
    """
    if not history:
        log_of(path).unlink(missing_ok=True)
        return
    text = io.StringIO()
    frame = pd.DataFrame([asdict(row) for row in history], columns=NAMES)
    frame.to_csv(text, index=False, float_format="%.6g", lineterminator="\n")
    with atomic_write(log_of(path)) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def to_json(history: Sequence[Epoch]) -> str:
    """Return the history as the state of a training keeps it."""
    return json.dumps([[getattr(row, name) for name in NAMES] for row in history])


def from_json(text: str) -> list[Epoch]:
    """Read what `to_json` has written; a state of an earlier version has an empty text."""
    return [Epoch(*row) for row in json.loads(text or "[]")]


def for_header(history: Sequence[Epoch]) -> dict[str, list[Any]]:
    """Return the columns of a history as the header of a checkpoint keeps them, with five digits."""
    places = np.linspace(0, len(history) - 1, min(len(history), MOST_EPOCHS)).round().astype(int)
    kept = [history[place] for place in places]
    return {
        name: [row.epoch if name == "epoch" else float(f"{getattr(row, name):.5g}") for row in kept]
        for name in NAMES
    }


def of_header(training: dict[str, Any]) -> pd.DataFrame | None:
    """Return the history in the header of a checkpoint as a table; None if it has none, or a damaged one."""
    found = training.get("history")
    if not isinstance(found, dict) or set(found) != set(NAMES):
        return None
    try:
        frame = pd.DataFrame({name: pd.to_numeric(pd.Series(found[name])) for name in NAMES})
    except (TypeError, ValueError):
        return None
    return None if frame.empty or bool(frame.isna().to_numpy().any()) else frame
