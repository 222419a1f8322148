"""Say what the outputs of somebody's network are, where they are not one row of logits for each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError, a_or_an, counted


@dataclass(frozen=True)
class ClassMap:
    """Outputs of a network that stand for the classes of a data set; other outputs are left out."""

    #: numbers of the outputs of each class, in the order of the labels; several are joined by log-sum-exp,
    #: which adds their probabilities
    outputs: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        used = [output for own in self.outputs for output in own]
        for label, own in enumerate(self.outputs):
            if not own:
                raise BenchError(f"`class_map`: class {label} has no output")
        for output in used:
            if output < 0 or used.count(output) > 1:
                what = "is below 0" if output < 0 else "is there twice"
                raise BenchError(f"`class_map`: output {output} {what}")

    @classmethod
    def of(cls, given: "str | Path | Sequence[int | Sequence[int]]") -> Self:
        """Read a text file with the outputs of a class in each line, or take them as numbers.

        Args:
            given: the file, or for each class one number or several; numbers of a line are separated by
                commas or spaces, and what follows a ``#`` is a comment.

        Raises:
            BenchError: the file cannot be read, a line has something else, or an output is there twice.
        """
        if not isinstance(given, str | Path):
            return cls(tuple((own,) if isinstance(own, int) else tuple(own) for own in given))
        path = Path(given).expanduser()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise BenchError(
                f"cannot read {path}: {reason}; "
                f"`class_map` is a file with the outputs of one class on each line"
            ) from error
        outputs = []
        for number, line in enumerate(lines, start=1):
            words = line.partition("#")[0].replace(",", " ").split()
            if not words:
                continue
            if not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
                raise BenchError(f"{path}, line {number}: {line[:40]!r} is not a list of output numbers")
            outputs.append(tuple(map(int, words)))
        return cls(tuple(outputs))

    def __call__(self, logits: Tensor) -> Tensor:
        """Return logits (..., classes) of outputs (..., n)."""
        return torch.stack([logits[..., list(own)].logsumexp(-1) for own in self.outputs], -1)

    def __str__(self) -> str:
        return " ".join(",".join(map(str, own)) for own in self.outputs)

    def check(self, outputs: int, classes: int, dataset: str) -> None:
        """Raises BenchError unless it fits a network of so many outputs and a data set of so many classes."""
        if len(self.outputs) != classes:
            raise BenchError(f"`class_map` has {len(self.outputs)} classes, {dataset} has {classes}")
        largest = max(output for own in self.outputs for output in own)
        if largest >= outputs:
            raise BenchError(f"`class_map` names output {largest}, the network has 0 to {outputs - 1}")


def shape_fault(shape: Sequence[int], images: int, classes: int, dataset: str) -> str | None:
    """Say why outputs of this shape are not one row of logits for each image; None if they are.

    Args:
        shape: of the outputs.
        images: number of images that were put in.
        classes: number of classes expected.
        dataset: name of the data set.
    """
    shape = tuple(shape)
    if shape in ((images,), (images, 1)) and classes == 2:
        return (
            f"returns one number z for each image, {dataset} has 2 classes: return torch.cat([0 * z, z], 1), "
            "whose softmax is the sigmoid of z ([-z, z] gives the same classes); if z is a probability, "
            "[log(1 - z), log(z)]"
        )
    if len(shape) != 2 or shape[0] != images:
        message = f"returns {shape} for {images} images; it must return one row of {classes} logits for each"
        estimators, left = divmod(shape[0], images) if shape else (0, 0)
        if len(shape) == 2 and estimators > 1 and not left:
            return (
                f"{message}. Are these {estimators} estimators, one after the other as torch-uncertainty "
                f"stacks them? Return out.unflatten(0, ({estimators}, -1)).softmax(-1).mean(0).log()"
            )
        if len(shape) == 3 and shape[1:] == (images, classes):
            return (
                f"{message}. If these are states at {shape[0]} times, return out[-1]; if they are {shape[0]} "
                "estimators, out.softmax(-1).mean(0).log()"
            )
        return message
    message = (
        f"has {counted(shape[1], 'output')}, {dataset} has {classes} classes: another data set's network, "
        "or its last layer is missing"
    )
    if shape[1] > classes:
        return (
            f"{message}; if its first {classes} classes are those of {dataset}, give `classes` {shape[1]}, "
            "and `class_map` if others are"
        )
    return message if shape[1] < classes else None


def no_tensor(output: object) -> str:
    """Say what a module returns that is no tensor, and which part of it may be the logits."""
    message = f"the module returns {a_or_an(type(output).__name__)}; it must return a tensor of logits"
    if not isinstance(output, tuple | list):
        return message
    for place, part in enumerate(output):
        if isinstance(part, Tensor) and part.ndim == 2:
            return f"{message}: its element [{place}], {tuple(part.shape)}?"
        if isinstance(part, Tensor) and part.ndim == 3:
            return (
                f"{message}: the last of its element [{place}], {tuple(part.shape)}? Of times and states, as "
                f"torchdyn returns them, that is out[{place}][-1]"
            )
    return message
