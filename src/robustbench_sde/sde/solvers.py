"""Fixed-step solvers for image-shaped states, differentiated through their discrete steps.

Adjoint methods are left out on purpose: their gradients differ from those of the discrete solve that
scores an image, which makes an attack weaker (docs/protocol.md).
"""

import math
from collections.abc import Callable, Iterable
from itertools import repeat

import torch
from torch import Tensor

from robustbench_sde.sde.diffusion import Diffusion

#: f(t, h): the shape of h, rows independent of each other
Drift = Callable[[float, Tensor], Tensor]


def euler_step(drift: Tensor, h: Tensor, dt: float) -> Tensor:
    """h + f dt: order 1."""
    return torch.add(h, drift, alpha=dt)


def euler_maruyama_step(diffusion: Diffusion, drift: Tensor, h: Tensor, z: Tensor, dt: float) -> Tensor:
    """h + f dt + G dB: strong order 1/2, weak order 1 (Kloeden & Platen 1992, section 10.2)."""
    return diffusion.add_noise(euler_step(drift, h, dt), h, drift, z, math.sqrt(dt))


def solve(
    drift: Drift,
    diffusion: Diffusion | None,
    h0: Tensor,
    normals: Iterable[Tensor] | None,
    *,
    horizon: float,
    steps: int,
) -> Tensor:
    """Integrate dh = f dt + G dB from 0 to `horizon` in `steps` equal steps.

    Args:
        drift: f(t, h) on a folded batch, (rows, ...) to (rows, ...).
        diffusion: G, or None for an ODE.
        h0: (draws or 1, images, ...). Where it starts with one draw, that one is shared: its first drift
            is computed once per image and the paths part with the first noise.
        normals: for each step a (draws, images, ...) tensor of standard normals; None for an ODE.
        horizon: T > 0.
        steps: N >= 1; the time of step i is i * T / N, never an accumulated float.

    Returns:
        h(T): (draws, images, ...), or the shape of `h0` for an ODE.
    """
    dt = horizon / steps
    h = h0
    each: Iterable[Tensor | None] = repeat(None, steps) if normals is None else normals
    for step, z in zip(range(steps), each, strict=True):
        f = drift(step * horizon / steps, h.flatten(0, 1)).view_as(h)
        if diffusion is None or z is None:
            h = euler_step(f, h, dt)
        else:
            h = euler_maruyama_step(diffusion, f, h, z, dt)
    return h
