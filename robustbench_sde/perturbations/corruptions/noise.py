"""Noise of single values (Hendrycks & Dietterich, ICLR 2019).

Every recipe maps images (B, C, H, W) float32 in [0, 1] to images of the same shape; `corrupt` clips them.
"""

import torch
from torch import Tensor

from robustbench_sde.perturbations.corruptions.setting import Setting

#: Below this rate the expansion is too coarse: a total variation of 7e-4 at rate 4, of 2e-4 at 8.
_SMALL_RATE = 4.0
#: Counts that the standard normals of this project (at most 6.67) can reach at a small rate.
_SMALL_COUNTS = 28


def gaussian_noise(x: Tensor, setting: Setting, sigma: float) -> Tensor:
    """x + sigma z, with z standard normal."""
    return setting.normals(*x.shape[1:]).mul_(sigma).add_(x)


def speckle_noise(x: Tensor, setting: Setting, sigma: float) -> Tensor:
    """x + sigma x z, with z standard normal."""
    return setting.normals(*x.shape[1:]).mul_(sigma * x).add_(x)


def shot_noise(x: Tensor, setting: Setting, photons: float) -> Tensor:
    """Poisson(photons x) / photons."""
    return poisson_quantile(x * photons, setting.normals(*x.shape[1:])).div_(photons)


def impulse_noise(x: Tensor, setting: Setting, share: float) -> Tensor:
    """A `share` of the values, each channel apart, becomes 0 or 1 with equal probability."""
    u = setting.uniforms(*x.shape[1:])
    kept = torch.ge(u, share, out=torch.empty_like(u))  # as 0 and 1: many times as fast as masks of bool
    return kept.mul_(x).add_(u.lt_(share / 2))


def poisson_quantile(rate: Tensor, z: Tensor) -> Tensor:
    """The Poisson variable of `rate` (>= 0) at the quantile of the standard normal `z`; any equal shapes.

    Large rates use the Cornish-Fisher expansion of M. B. Giles, "Algorithm 955: approximation of the inverse
    Poisson cumulative distribution function" (TOMS 2016), equation Q_N3; small ones are inverted exactly.
    """
    root, square = rate.sqrt(), z * z
    first = square.add(2).div_(6)
    second = (z * first).div_(-12)
    third = square.mul(3).add_(7).mul_(square).sub_(16).div_(810)
    series = third.div_(root).add_(second).div_(root).add_(first).div_(root).add_(z)
    counts = series.mul_(root).add_(rate).floor_().clamp_(min=0)
    small = (rate < _SMALL_RATE).flatten().nonzero().squeeze(1)
    if len(small):
        u = torch.special.ndtr(z.flatten()[small])
        counts.view(-1)[small] = _invert_poisson(rate.flatten()[small], u)
    return counts


def _invert_poisson(rate: Tensor, u: Tensor) -> Tensor:
    """The smallest k whose cumulative probability reaches `u`, by adding up the terms."""
    counts = torch.zeros_like(rate)
    term = torch.exp(-rate)
    cumulative = term.clone()
    for k in range(1, _SMALL_COUNTS):
        above = u > cumulative
        if not above.any():  # nor is it for a larger k
            break
        counts += above
        term *= rate / k
        cumulative += term
    return counts
