"""Define what a tracker of trainings gets, and what it must do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from robustbench_sde.training.history import Epoch


@dataclass(frozen=True)
class Training:
    """A training that begins or goes on."""

    #: name of the checkpoint, without folder and ending
    name: str
    #: checkpoint that is written
    path: Path
    #: sentence about what is trained
    words: str
    #: options of `TrainConfig`, and `dataset`
    options: Mapping[str, Any]
    #: text that names this training and no other, also when it is resumed
    key: str
    #: epochs that are done already; a tracker may know them, or all but the last
    history: Sequence[Epoch] = ()


class TrainingLogger(Protocol):
    """Receiver of the epochs of one training."""

    def epoch(self, row: Epoch) -> None:
        """Take the numbers of an epoch."""

    def close(self, outcome: Mapping[str, float], *, finished: bool) -> None:
        """End: `outcome` has the test accuracy if measured; `finished` is False after an interruption."""
