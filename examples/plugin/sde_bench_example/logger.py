"""A logger: a function of a Training that returns an object with `epoch` and `close`."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from robustbench_sde.training.history import Epoch
from robustbench_sde.training.tracking import Training, TrainingLogger


class JsonLines:
    """Writes a JSON object a line beside the checkpoint: each epoch, then the outcome."""

    def __init__(self, training: Training) -> None:
        self._path = training.path.with_suffix(".jsonl")
        # a resumed training knows its earlier epochs, and may have written the last of them already
        self._path.write_text("".join(map(_line, map(asdict, training.history))), "utf-8")

    def epoch(self, row: Epoch) -> None:
        """Append an epoch."""
        self._append(asdict(row))

    def close(self, outcome: Mapping[str, float], *, finished: bool) -> None:
        """Append the test accuracy, if it was measured, and whether the training has ended."""
        self._append({"finished": finished, **outcome})

    def _append(self, entry: Mapping[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(entry))


def json_lines(training: Training) -> TrainingLogger:
    """Write the course of a training as JSON lines, NAME.jsonl beside the checkpoint."""
    return JsonLines(training)


def _line(entry: Mapping[str, object]) -> str:
    return json.dumps(entry) + "\n"
