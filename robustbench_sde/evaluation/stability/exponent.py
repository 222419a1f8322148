"""Top Lyapunov exponent of a flow over its own time [0, T], and the parts of drift and noise in it.

A tangent vector v follows the discrete solve that scores images: v -> D(step) v along one Brownian path,
renormalised at every step (Benettin et al. 1980). A trained flow is not defined beyond T, so that this is a
finite-time exponent, log(|v(T)| / |v(0)|) / T, of a random direction at h(0).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.evaluation.stability.linear import Linearised, normalised, norms
from robustbench_sde.sde.diffusion import Diffusion
from robustbench_sde.sde.integrate import Equation, Step


@dataclass(frozen=True)
class Growth:
    """Growth of tangent vectors along paths; float64."""

    #: (steps + 1, draws, images): log(|v(t)| / |v(0)|) at the start and after every step
    log: Tensor
    #: (draws, images): mean over time of u . J u, u = v / |v|: the part of the drift in the exponent
    drift: Tensor
    #: (draws, images): part of the noise in the limit of small steps, the mean of `noise_share`
    noise: Tensor
    #: T, the sum over equations
    time: float

    @property
    def exponent(self) -> Tensor:
        """Finite-time exponent per unit of time, (draws, images)."""
        return self.log[-1] / self.time


def tangent_growth(h0: Tensor, equations: Sequence[Equation], tangent: Tensor) -> Growth:
    """Follow `tangent` from h(0) through equations that follow one another.

    The drift's part, the noise's part, a martingale and the error of the discretisation sum up to the
    exponent: d log|v| = (u . J u + `noise_share`) dt + (mean 0), by Ito's formula.

    Args:
        h0: (draws, images, ...) states.
        equations: equations that follow one another, with their Brownian paths.
        tangent: (draws, images, ...) directions, of any length but 0.
    """
    h, u = h0, normalised(tangent)
    log = [torch.zeros(h0.shape[:2], dtype=torch.float64, device=h0.device)]
    drift, noise = torch.zeros_like(log[0]), torch.zeros_like(log[0])
    for equation in equations:
        for step in equation.walk():
            f = Linearised(partial(equation.f, step.t), h)
            ju = f.jvp(u)
            drift += equation.dt * _dots(u, ju)
            noise += equation.dt * noise_share(step, (h, f.value), (u, ju))
            flow = Linearised(step, h)
            v = flow.jvp(u)
            log.append(log[-1] + norms(v).log())
            h, u = flow.value, normalised(v)
    time = sum(equation.horizon for equation in equations)
    return Growth(torch.stack(log), drift / time, noise / time, time)


def largest_exponent(h0: Tensor, equations: Sequence[Equation], start: Tensor) -> Tensor:
    """Return the exponent of the direction at h(0) that grows most until T: (draws, images) float64.

    log |D h(T) / D h(0)| / T, with the operator norm: what an attacker who knew the path could use.

    Args:
        h0: (draws, images, ...) states.
        equations: equations that follow one another, with their Brownian paths.
        start: (draws, images, ...) random directions.
    """

    def whole(h: Tensor) -> Tensor:
        for equation in equations:
            h = equation.solve(h)
        return h

    time = sum(equation.horizon for equation in equations)
    return Linearised(whole, h0).largest_singular_value(start).log() / time


def noise_share(step: Step, at: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]) -> Tensor:
    """Return the part of noise in d log|v| / dt: |w|^2 / 2 - sum over Brownian motions of (their u . w)^2.

    w = D G u, the noise of the tangent vector: 0 for additive, sigma u for multiplicative, sigma J u for
    dropout noise. NaN where a term is no diffusion: its part is no Ito term.

    Args:
        step: step of a solver with its noise terms; the shape of their numbers says which entries share a
            Brownian motion.
        at: state and drift, (draws, images, ...).
        along: unit tangent vector u, and J u.

    Returns:
        (draws, images) float64.
    """
    u, _ = along
    share = torch.zeros(u.shape[:2], dtype=torch.float64, device=u.device)
    for term, z in step.noise:
        if term.cancels:
            continue
        if not isinstance(term, Diffusion):
            return torch.full_like(share, torch.nan)
        w = Linearised(_joint(term, step.t), torch.stack(at, 2)).jvp(torch.stack(along, 2))
        motions = (u.double() * w.double()).sum_to_size(*u.shape[:2], *z.shape[2:])
        share += norms(w).square() / 2 - motions.flatten(2).square().sum(2)
    return share


def _joint(term: Diffusion, t: float) -> Callable[[Tensor], Tensor]:
    """Return G as a function of state and drift, stacked as (draws, images, 2, ...)."""
    return lambda both: term.g(t, both[:, :, 0], both[:, :, 1])


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b.double()).flatten(2).sum(2)
