"""Kinds of networks: which checkpoints are trainings of the same thing, by name or by their headers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustbench_sde.errors import BenchError
from robustbench_sde.models.header import CheckpointHeader, read_header
from robustbench_sde.texts import matches
from robustbench_sde.training.config import TrainConfig

#: fields of a header's training that differ between two trainings of one kind
_OF_ONE_TRAINING = (
    "seed",
    "seconds",
    "final_loss",
    "history",
    "epochs_done",
    "test_accuracy",
    "test_images",
    "test_draws",
)


def kinds_by_pattern(patterns: Mapping[str, str], names: Sequence[str]) -> dict[str, list[str]]:
    """Sort checkpoints into kinds by patterns of their names.

    Args:
        patterns: pattern by kind, with ``*`` for any text and ``?`` for any letter.
        names: names of all checkpoints.

    Raises:
        BenchError: a pattern matches no checkpoint, or two match the same one.
    """
    kinds: dict[str, list[str]] = {}
    for kind, pattern in patterns.items():
        kinds[kind] = [name for name in names if matches(name, pattern)]
        if not kinds[kind]:
            raise BenchError(f"kind {kind}={pattern} matches no checkpoint; there are: {', '.join(names)}")
    for name in names:
        owners = [kind for kind, members in kinds.items() if name in members]
        if len(owners) > 1:
            raise BenchError(
                f"{name} is of the kinds {' and '.join(owners)}; make their patterns exclude each other"
            )
    return kinds


def parse_kinds(text: str) -> dict[str, str]:
    """Parse ``sde=digits-mult*,ode=digits-ode*``.

    Raises:
        BenchError: a part is not NAME=PATTERN, or a name repeats.
    """
    patterns: dict[str, str] = {}
    for part in text.split(","):
        name, equals, pattern = (piece.strip() for piece in part.partition("="))
        if not (name and equals and pattern) or name in patterns:
            raise BenchError(
                f"kind {part.strip()!r}: write NAME=PATTERN once for each, like sde=digits-mult*"
            )
        patterns[name] = pattern
    return patterns


def kinds_by_header(files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Sort checkpoints into kinds by what their headers say: network, noise and training, without its seed.

    A kind with a single training is not returned: its checkpoint stands for itself.

    Args:
        files: checkpoint files by name.

    Raises:
        BenchError: a file is not a checkpoint.
    """
    headers = {name: read_header(path) for name, path in files.items()}
    groups: dict[str, list[str]] = {}
    for name, header in headers.items():
        same = repr(_identity(header)) if header.training else name  # nothing is known of an imported network
        groups.setdefault(same, []).append(name)
    several = [members for members in groups.values() if len(members) > 1]
    labels = [describe_kind(headers[members[0]]) for members in several]
    return {
        f"{label} ({members[0]} ...)" if labels.count(label) > 1 else label: members
        for label, members in zip(labels, several, strict=True)
    }


def describe_kind(header: CheckpointHeader) -> str:
    """Describe a kind, like ``cifar, multiplicative 0.5 scalar``: its preset and its noise."""
    model = header.model
    terms = " + ".join(f"{term.kind} {term.sigma:g} {term.shape}" for term in model.noise)
    return f"{model.preset}, {terms or 'no noise'}"


def _identity(header: CheckpointHeader) -> tuple[Any, ...]:
    dumped = header.model_dump()
    known = {
        name: field.default for name, field in TrainConfig.model_fields.items()
    }  # earlier headers lack some
    known |= dumped["training"]
    training = {name: value for name, value in known.items() if name not in _OF_ONE_TRAINING}
    return dumped["model"], dumped["dataset"]["fingerprint"], training
