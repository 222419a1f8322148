"""Measure how much a drift can pull neighbouring states apart, along the trajectories of real images."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from robustbench_sde.evaluation.stability.linear import Linearised
from robustbench_sde.sde.integrate import Equation


class Constants(NamedTuple):
    """Constants of the drift's Jacobian J at the start of each step: (steps, paths, images) float64.

    Both are lower bounds, close ones, of their largest value near the states met, and the largest over
    trajectories is one of the supremum over all states, which a theorem asks for.
    """

    #: operator norm of J: |f(x) - f(y)| <= L |x - y|, the constant of the paper's condition
    lipschitz: Tensor
    #: largest eigenvalue of (J + J^T) / 2: (x - y).(f(x) - f(y)) <= mu |x - y|^2. It is at most L, may be
    #: negative, and is what the proof needs
    one_sided: Tensor


def drift_constants(h0: Tensor, equations: Sequence[Equation], start: Tensor) -> Constants:
    """Measure the constants along the solves from `h0` through equations that follow one another.

    Args:
        h0: (draws, images, ...) states.
        equations: equations with their Brownian paths.
        start: (paths, images, ...) random directions where the iterations begin; the first `paths` draws are
            measured.
    """
    h, lipschitz, one_sided = h0, [], []
    for equation in equations:
        for step in equation.walk():
            drift = Linearised(partial(equation.f, step.t), h[: len(start)])
            lipschitz.append(drift.largest_singular_value(start))
            one_sided.append(drift.largest_symmetric_eigenvalue(start))
            h = step(h)
    return Constants(torch.stack(lipschitz), torch.stack(one_sided))
