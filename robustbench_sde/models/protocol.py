"""Define the interface that an evaluation asks of a classifier, whoever wrote it.

`RandomClassifier` is what all must have. Abilities that only some have are asked for by the functions below
and nowhere else, so that a classifier without them is one all the same.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from robustbench_sde.sde.draws import Draws


class RandomClassifier(Protocol):
    """A classifier whose forward pass is a function of the image and a keyed draw."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def noise(self) -> str:
        """Diffusion term, `none`, or `opaque` where the noise is not ours."""

    @property
    def sigma(self) -> float:
        """Noise scale at test time; NaN where unknown."""

    @property
    def stochastic(self) -> bool:
        """False where every draw gives the same logits: one forward pass is then enough."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) that it takes."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def precision(self) -> str:
        """Precision of convolutions and linear maps: `fp32` or `bf16`."""

    @property
    def device(self) -> torch.device:
        """Device that images must be on."""

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Logits (draws, images, classes) of float images (B, C, H, W) in [0, 1].

        Row (k, b) depends on nothing but image b, its id and draw k.
        """


def without_noise(model: RandomClassifier) -> RandomClassifier | None:
    """Return a classifier with its noise switched off, by its method `with_noise`; None if it has none."""
    switch = getattr(model, "with_noise", None)
    silent: RandomClassifier | None = None if switch is None else switch(enabled=False)
    return silent


def with_solver(model: RandomClassifier, solver: str, steps: int | None) -> RandomClassifier | None:
    """Return a classifier with another solver, by its method `with_solver`; None if it has none.

    Args:
        model: classifier.
        solver: name of the solver.
        steps: number of its steps; None: as many as the classifier takes.

    Raises:
        BenchError: the solver does not take the noise of the classifier.
    """
    switch = getattr(model, "with_solver", None)
    other: RandomClassifier | None = None if switch is None else switch(solver=solver, steps=steps)
    return other


def solver_of(model: RandomClassifier) -> tuple[str, int]:
    """Return the name of the solver and the number of its steps; empty and 0 without one."""
    return getattr(model, "solver", ""), getattr(model, "steps", 0)


def batch_dependence_of(model: RandomClassifier) -> float:
    """Return the change that other images of a batch would make to logits; NaN if there is none."""
    return float(getattr(model, "batch_dependence", math.nan))


def network_of(model: object) -> object:
    """Return the network inside a classifier, at whose parameters libraries look; else the object itself."""
    return getattr(model, "module", model)
