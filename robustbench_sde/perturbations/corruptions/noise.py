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
    return x + sigma * setting.normals(*x.shape[1:])


def speckle_noise(x: Tensor, setting: Setting, sigma: float) -> Tensor:
    """x + sigma x z, with z standard normal."""
    return x + sigma * x * setting.normals(*x.shape[1:])


def shot_noise(x: Tensor, setting: Setting, photons: float) -> Tensor:
    """Poisson(photons x) / photons."""
    return poisson_quantile(x * photons, setting.normals(*x.shape[1:])) / photons


def impulse_noise(x: Tensor, setting: Setting, share: float) -> Tensor:
    """A `share` of the values, each channel apart, becomes 0 or 1 with equal probability."""
    u = setting.uniforms(*x.shape[1:])
    return x.masked_fill(u < share, 0.0).masked_fill(u < share / 2, 1.0)


def poisson_quantile(rate: Tensor, z: Tensor) -> Tensor:
    """The Poisson variable of `rate` (>= 0) at the quantile of the standard normal `z`; any equal shapes.

    Large rates use the Cornish-Fisher expansion of M. B. Giles, "Algorithm 955: approximation of the inverse
    Poisson cumulative distribution function" (TOMS 2016), equation Q_N3; small ones are inverted exactly.
    """
    root = rate.sqrt()
    first = (z * z + 2) / 6
    second = z * first / -12
    third = (z * z * (z * z * 3 + 7) - 16) / 810
    series = third.div_(root).add_(second).div_(root).add_(first).div_(root).add_(z)
    counts = series.mul_(root).add_(rate).floor_().clamp_(min=0)
    small = rate < _SMALL_RATE
    counts[small] = _invert_poisson(rate[small], torch.special.ndtr(z[small]))
    return counts


def _invert_poisson(rate: Tensor, u: Tensor) -> Tensor:
    """The smallest k whose cumulative probability reaches `u`, by adding up the terms."""
    counts = torch.zeros_like(rate)
    term = torch.exp(-rate)
    cumulative = term.clone()
    for k in range(1, _SMALL_COUNTS):
        counts += u > cumulative
        term *= rate / k
        cumulative += term
    return counts
