"""The complete description of a network: what a checkpoint needs besides weights."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robustbench_sde.errors import BenchError, unknown_name

NoiseKind = Literal["none", "additive", "multiplicative", "dropout"]


class Spec(BaseModel):
    """Base of all specifications: immutable, strict about unknown keys and non-finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_problem(error: ValidationError, where: str = "") -> BenchError:
    """The first problem of a specification as a sentence; names the nearest choice of a wrong name.

    Args:
        error: what pydantic found.
        where: file or section, put in front.
    """
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"]) or "options"
    prefix = f"{where}: " if where else ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        choices = [
            choice.strip("' ") for choice in problem["ctx"]["expected"].replace(" or ", ",").split(",")
        ]
        return BenchError(f"{prefix}{unknown_name(key, problem['input'], choices)}")
    message = problem["msg"].removeprefix("Value error, ")
    return BenchError(f"{prefix}{key}: {message} (got {str(problem['input'])[:60]!r})")


class NoiseSpec(Spec):
    """The diffusion term: its kind and its scale."""

    kind: NoiseKind = "none"
    #: noise scale per square root of the time unit; 0 for an ODE
    sigma: float = Field(default=0.0, ge=0.0, le=1e3)

    @property
    def active(self) -> bool:
        """Whether the forward pass is random."""
        return self.kind != "none" and self.sigma > 0


class ModelSpec(Spec):
    """stem -> ODE/SDE block(s) -> head.

    Each entry of `stem` is a stride-`s` 3x3 convolution to `width` channels with GroupNorm and ReLU.
    """

    preset: str = "custom"
    channels: int = Field(ge=1, le=64)
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    classes: int = Field(ge=2, le=100_000)
    #: channels of the hidden state
    features: int = Field(ge=1, le=4096)
    stem_strides: tuple[int, ...] = Field(min_length=1, max_length=8)
    blocks: int = Field(default=1, ge=1, le=16)
    norm_groups: int = Field(default=8, ge=1)
    horizon: float = Field(default=1.0, gt=0.0, le=1e3)
    steps: int = Field(ge=1, le=10_000)
    noise: NoiseSpec = NoiseSpec()
    #: per channel, of images in [0, 1]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.features % self.norm_groups:
            raise ValueError(f"features {self.features} is not a multiple of norm_groups {self.norm_groups}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need one value for each of {self.channels} channels")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        if any(not 1 <= stride <= 8 for stride in self.stem_strides):
            raise ValueError("stem_strides must be between 1 and 8")
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it was made for."""
        return self.channels, self.height, self.width
