"""The complete description of a network: what a checkpoint needs besides weights."""

import math
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from robustbench_sde.choices import NoiseShape
from robustbench_sde.errors import BenchError, printable, unknown_name
from robustbench_sde.models.layers import stem_widths
from robustbench_sde.sde.solvers import check_solver

NoiseKind = Literal["none", "additive", "multiplicative", "dropout", "jump"]
#: plain: flows one after the other. liu2020: the networks that were released, flows side by side on scales.
#: odenet, odenet-residual: torchdiffeq's MNIST example with either downsampling
Architecture = Literal["plain", "liu2020", "odenet", "odenet-residual"]

#: of everything random: 64 bits, which is what tables hold
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


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
    key = printable(".".join(str(part) for part in problem["loc"])) or "options"
    prefix = f"{where}: " if where else ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        choices = [
            choice.strip("' ") for choice in problem["ctx"]["expected"].replace(" or ", ",").split(",")
        ]
        return BenchError(f"{prefix}{unknown_name(key, problem['input'], choices)}")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):  # of several keys together
        return BenchError(f"{prefix}{message}")
    return BenchError(f"{prefix}{key}: {message} (got {str(problem['input'])[:60]!r})")


class NoiseSpec(Spec):
    """One term of the noise: its kind, its scale, and what shares a Brownian motion."""

    kind: NoiseKind = "none"
    #: noise scale per square root of the time unit (of a jump: its size relative to h); 0 for an ODE
    sigma: float = Field(default=0.0, ge=0.0, le=1e3)
    #: one Brownian motion per entry of the state (the released networks), channel, or image (the theorem)
    shape: NoiseShape = "independent"
    #: sigma(T) / sigma(0); linear in between
    growth: float = Field(default=1.0, ge=0.0, le=1e3)
    #: whether each flow learns its sigma, from `sigma` on
    learned: bool = False
    #: expected jumps of an entry per unit of time; of kind jump only
    rate: float = Field(default=1.0, gt=0.0, le=1e4)

    @property
    def active(self) -> bool:
        """Whether the forward pass is random."""
        return self.kind != "none" and self.sigma > 0


def parse_noise(
    text: str, *, sigma: float, keep: float | None = None, **common: object
) -> tuple[NoiseSpec, ...]:
    """Noise terms from ``none``, ``multiplicative``, or several: ``additive:0.3+multiplicative``.

    Args:
        text: kinds joined by ``+``, each with its own sigma behind a colon if it differs from `sigma`.
        sigma: scale of the terms that name none.
        keep: share p that dropout keeps, in place of its sigma, which is then sqrt((1-p)/p).
        common: further fields of every term.

    Raises:
        BenchError: there is no such kind, or a value is wrong.
    """
    terms = []
    for part in text.split("+"):
        kind, _, own = part.strip().partition(":")
        if kind not in get_args(NoiseKind):
            raise unknown_name("noise", kind, get_args(NoiseKind))
        scale: float | str = own or sigma
        if kind == "dropout" and keep is not None and not own:
            scale = math.sqrt((1 - keep) / keep)
        try:
            terms.append(NoiseSpec.model_validate({"kind": kind, "sigma": scale, **common}))
        except ValidationError as error:
            raise first_problem(error, f"noise {part.strip()}") from error
    return tuple(terms)


def _listed(noise: object) -> object:
    """One term as a tuple of one: how the first checkpoints say it."""
    return noise if isinstance(noise, list | tuple) else (noise,)


def _without_none(noise: tuple[NoiseSpec, ...]) -> tuple[NoiseSpec, ...]:
    terms = tuple(term for term in noise if term.kind != "none")
    if len({term.kind for term in terms}) < len(terms):
        raise ValueError("each kind of noise can be there once")
    return terms


#: Terms that act together, each with its own Brownian motion; empty for an ODE.
Noise = Annotated[tuple[NoiseSpec, ...], BeforeValidator(_listed), AfterValidator(_without_none)]


class ModelSpec(Spec):
    """stem -> ODE/SDE flow(s) -> head."""

    preset: str = "custom"
    architecture: Architecture = "plain"
    channels: int = Field(ge=1, le=64)
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    classes: int = Field(ge=2, le=100_000)
    #: channels of the hidden state
    features: int = Field(ge=1, le=4096)
    #: one convolution each; (1, 1, 2) for liu2020, (1, 2, 2) for odenets
    stem_strides: tuple[int, ...] = Field(min_length=1, max_length=8)
    #: flows: one after the other, or on as many scales
    blocks: int = Field(default=1, ge=1, le=16)
    norm_groups: int = Field(default=8, ge=1)
    horizon: float = Field(default=1.0, gt=0.0, le=1e3)
    steps: int = Field(ge=1, le=10_000)
    solver: str = "euler"
    noise: Noise = ()
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
        if self.architecture == "liu2020":
            self._check_scales()
        elif self.architecture != "plain":
            self._check_odenet()
        self._check_solver()
        return self

    def _check_odenet(self) -> None:
        if self.stem_strides != (1, 2, 2) or self.blocks != 1:
            raise ValueError(f"architecture {self.architecture} has stem_strides (1, 2, 2) and one block")
        if min(self.height, self.width) < 8:
            raise ValueError(f"architecture {self.architecture} needs images of at least 8x8")

    def _check_scales(self) -> None:
        if self.stem_strides != (1, 1, 2):
            raise ValueError("the stem of architecture liu2020 has stem_strides (1, 1, 2)")
        if any(width < 1 or width % min(width, self.norm_groups) for width in stem_widths(self.features)):
            raise ValueError(
                f"a quarter and half of the features, {self.features}, must be multiples of norm_groups, "
                f"{self.norm_groups}, or smaller"
            )
        smallest = 2**self.blocks
        if min(self.height, self.width) < smallest:
            raise ValueError(f"{self.blocks} scales need images of at least {smallest}x{smallest}")

    def _check_solver(self) -> None:
        try:
            check_solver(self.solver, [term.kind for term in self.active_noise])
        except BenchError as error:
            raise ValueError(str(error)) from error
        for term in self.active_noise:
            if term.kind == "jump" and term.rate * self.horizon > self.steps:
                raise ValueError(
                    f"jumps of rate {term.rate:g} need at least {math.ceil(term.rate * self.horizon)} steps, "
                    f"not {self.steps}: a step has one jump at most"
                )

    @property
    def sigma(self) -> float:
        """Noise scale at t = 0; NaN where terms differ or the weights hold a learned one, 0 for an ODE."""
        scales = {math.nan if term.learned else term.sigma for term in self.active_noise}
        return math.nan if len(scales) > 1 else next(iter(scales), 0.0)

    @property
    def active_noise(self) -> tuple[NoiseSpec, ...]:
        """The terms that make the forward pass random."""
        return tuple(term for term in self.noise if term.active)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it was made for."""
        return self.channels, self.height, self.width
