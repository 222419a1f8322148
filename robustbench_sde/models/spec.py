"""Define the complete description of a network: what a checkpoint needs besides weights."""

import math
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.models.architectures import ARCHITECTURES
from robustbench_sde.models.noise import Noise, NoiseSpec
from robustbench_sde.models.strict import Spec
from robustbench_sde.sde.solvers import check_solver


def _known_architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(str(unknown_name("architecture", name, ARCHITECTURES)))
    return name


class ModelSpec(Spec):
    """stem -> ODE/SDE flow(s) -> head."""

    preset: str = "custom"
    architecture: Annotated[str, AfterValidator(_known_architecture)] = "plain"
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
        if problem := ARCHITECTURES[self.architecture].problem(self):
            raise ValueError(problem)
        self._check_solver()
        return self

    def _check_solver(self) -> None:
        try:
            check_solver(self.solver, [term.kind for term in self.active_noise])
        except BenchError as error:
            raise ValueError(str(error)) from error
        for term in self.active_noise:
            if problem := term.term(term.sigma, self.horizon).problem(self.steps):
                raise ValueError(problem)

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
