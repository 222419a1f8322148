"""Weights of another code under our names."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.weights import differences


@dataclass(frozen=True)
class Foreign:
    """A network that another code has trained."""

    #: the architecture that it is, in `PRESETS`
    preset: str
    #: tensors by our names
    weights: dict[str, Tensor]
    blocks: int = 1
    #: solver that comes nearest to the one it was trained with
    solver: str = "euler"
    noise: NoiseSpec = field(default_factory=NoiseSpec)


def renamed(
    path: Path,
    foreign: Mapping[str, Tensor],
    names: Mapping[str, str],
    what: str,
    *,
    beside: Collection[str] = (),
) -> dict[str, Tensor]:
    """Tensors by our names, in fp32.

    Args:
        path: of the file, for errors.
        foreign: by their names.
        names: theirs to ours.
        what: what the file should be, for errors.
        beside: names that must be there and belong to no weight.

    Raises:
        BenchError: names are missing or too many (all are listed), or a number of dimensions is wrong.
    """
    expected = names.keys() | set(beside)
    problem = differences(missing=expected - foreign.keys(), unexpected=foreign.keys() - expected)
    if problem:
        raise BenchError(f"{path} is not {what}; {problem}")
    for old, new in names.items():
        dimensions = 1 if "norm" in new or old.endswith("bias") else 2 if "linear" in new else 4
        if foreign[old].ndim != dimensions:
            raise BenchError(f"{path}: {old} has {foreign[old].ndim} dimensions, not {dimensions}")
    return {new: foreign[old].float() for old, new in names.items()}
