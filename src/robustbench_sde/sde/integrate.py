"""Integration of dh = f(h, t) dt + sum of G(h, t) dB over image-shaped states, and its gradients."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from robustbench_sde.sde.diffusion import NoiseTerm
from robustbench_sde.sde.solvers import SOLVERS, Drift, Solver


class Path(Protocol):
    """The random numbers of a noise term by step: `path[2:5]` makes those of three steps, anew each time.

    Each is (draws, images, ...): of the state's shape, or with ones where entries share a number.
    A list of tensors will do; `BrownianPaths` holds none in memory.
    """

    def __getitem__(self, steps: slice, /) -> Iterable[Tensor]: ...


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
    """Integrate from 0 to `horizon` in `steps` equal steps.

    Args:
        drift: f(t, h) on a folded batch, (rows, ...) to (rows, ...).
        h0: (draws or 1, images, ...). Where it starts with one draw, that one is shared: its first drift
            is computed once per image and the paths part with the first noise.
        noise: each term with its random numbers; none for an ODE.
        horizon: T > 0.
        steps: N >= 1; the time of step i is i * T / N, never an accumulated float.
        solver: one that takes this noise (`check_solver`).
        recompute: keep the state at every sqrt(N)-th step only and compute the rest again, noise included,
            for the gradient: memory grows like sqrt(N), time by one forward pass, no gradient changes.

    Returns:
        h(T): (draws, images, ...), or the shape of `h0` for an ODE.
    """
    dt = horizon / steps

    def f(t: float, h: Tensor) -> Tensor:
        return drift(t, h.flatten(0, 1)).view_as(h)

    def advance(h: Tensor, start: int, stop: int) -> Tensor:
        paths = [path[start:stop] for _, path in noise]
        terms = [term for term, _ in noise]
        numbers = zip(*paths, strict=True) if paths else [()] * (stop - start)
        for step, z in zip(range(start, stop), numbers, strict=True):
            h = solver.step(f, step * horizon / steps, h, dt, list(zip(terms, z, strict=True)))
        return h

    if not (recompute and torch.is_grad_enabled()):
        return advance(h0, 0, steps)
    h, length = h0, math.isqrt(steps - 1) + 1
    for start in range(0, steps, length):
        h = checkpoint(
            advance, h, start, min(start + length, steps), use_reentrant=False, preserve_rng_state=False
        )
    return h
