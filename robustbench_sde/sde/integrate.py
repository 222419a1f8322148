"""Integration of dh = f(h, t) dt + sum of G(h, t) dB over image-shaped states, and its gradients."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from robustbench_sde.sde.diffusion import NoiseTerm
from robustbench_sde.sde.draws import BrownianPaths
from robustbench_sde.sde.heap import return_freed_memory
from robustbench_sde.sde.keyed import Numbers
from robustbench_sde.sde.solvers import SOLVERS, Drift, Solver, StepNoise


class Path(Protocol):
    """The random numbers of a noise term by step: `path[2:5]` makes those of three steps, again at each call.

    Each tensor is (draws, images, ...) with the shape of the state, or with size 1 in dimensions whose
    entries share a number. A list of tensors is a path, too; `BrownianPaths` stores no numbers.
    """

    def __getitem__(self, steps: slice, /) -> Iterable[Tensor]: ...


def _unmade(path: Path, steps: slice) -> Iterable[Numbers]:
    """Return the numbers of some steps, or descriptions of them if the device can make them in the update."""
    return path.unmade(steps) if isinstance(path, BrownianPaths) else path[steps]


@dataclass(frozen=True, eq=False)
class Equation:
    """dh = f(h, t) dt + sum of G(h, t) dB from 0 to `horizon`, with its random numbers and its solver."""

    #: f(t, h) on a folded batch, (rows, ...) to (rows, ...)
    drift: Drift
    #: each term with its random numbers; none for an ODE
    noise: Sequence[tuple[NoiseTerm, Path]]
    #: end time T > 0
    horizon: float
    #: number of steps N >= 1; step i starts at i * T / N, never at an accumulated float
    steps: int
    #: solver that supports this noise (`check_solver`)
    solver: Solver

    @property
    def dt(self) -> float:
        """T / N."""
        return self.horizon / self.steps

    def f(self, t: float, h: Tensor) -> Tensor:
        """Return the drift of states (draws, images, ...)."""
        return self.drift(t, h.flatten(0, 1)).view_as(h)

    def walk(self, start: int = 0, stop: int | None = None) -> Iterator["Step"]:
        """Yield the steps in order, or those of a range: each a map from h(t) to h(t + dt)."""
        stop = self.steps if stop is None else stop
        terms = [term for term, _ in self.noise]
        paths = [_unmade(path, slice(start, stop)) for _, path in self.noise]
        numbers = zip(*paths, strict=True) if paths else [()] * (stop - start)
        for step, z in zip(range(start, stop), numbers, strict=True):
            yield Step(self, step * self.horizon / self.steps, list(zip(terms, z, strict=True)))

    def solve(self, h0: Tensor, *, recompute: bool = False) -> Tensor:
        """Return h(T), (draws, images, ...), or with the shape of `h0` for an ODE.

        Args:
            h0: (draws or 1, images, ...) initial state. With one draw the state is shared: its first drift
                is computed once for each image, and the paths differ from the first noise on.
            recompute: whether to store the state only at every sqrt(N)-th step and to compute the other
                states and the noise again for the gradient. Memory then grows like sqrt(N), the time by one
                forward pass, and gradients do not change.
        """

        def advance(h: Tensor, start: int, stop: int) -> Tensor:
            for step in self.walk(start, stop):
                h = step(h)
            return h

        def advance_again(h: Tensor, start: int, stop: int) -> Tensor:
            return_freed_memory()  # of the stretch before: its holes would add up
            return advance(h, start, stop)

        if not (recompute and torch.is_grad_enabled()):
            return advance(h0, 0, self.steps)
        h, length = h0, math.isqrt(self.steps - 1) + 1
        for start in range(0, self.steps, length):
            stop = min(start + length, self.steps)
            h = checkpoint(advance_again, h, start, stop, use_reentrant=False, preserve_rng_state=False)
        return h


@dataclass(frozen=True, eq=False)
class Step:
    """A step of an equation: h(t) to h(t + dt), a function with its random numbers in it."""

    equation: Equation
    t: float
    #: each term with its numbers, (draws, images, ...), with ones where entries share a number
    noise: StepNoise

    def __call__(self, h: Tensor) -> Tensor:
        equation = self.equation
        return equation.solver.step(equation.f, self.t, h, equation.dt, self.noise)


def solve(
    drift: Drift,
    h0: Tensor,
    noise: Sequence[tuple[NoiseTerm, Path]] = (),
    *,
    horizon: float,
    steps: int,
    solver: Solver = SOLVERS["euler"],
    recompute: bool = False,
) -> Tensor:
    """`Equation.solve` in one call."""
    return Equation(drift, noise, horizon, steps, solver).solve(h0, recompute=recompute)
