"""Loss of sharpness (Hendrycks & Dietterich, ICLR 2019).

Every recipe maps images (B, C, H, W) float32 in [0, 1] to images of the same shape; `corrupt` clips them.
Radii, sigmas and `max_delta` are lengths in pixels; zoom factors are not.
"""

import math

import numpy as np
import torch
from torch import Tensor

from robustbench_sde.perturbations.corruptions import filters
from robustbench_sde.perturbations.corruptions.filters import Border, Kernel
from robustbench_sde.perturbations.corruptions.quantise import truncate
from robustbench_sde.perturbations.corruptions.setting import Setting


def gaussian_blur(x: Tensor, setting: Setting, sigma: float) -> Tensor:
    """Gaussian blur, nearest border."""
    return filters.gaussian_blur(x, setting.pixels(sigma))


def defocus_blur(x: Tensor, setting: Setting, radius: float, alias_blur: float) -> Tensor:
    """Correlation with a disk whose rim is smoothed; the whole kernel is scaled to the size of the images."""
    kernel = _rescale(_disk(radius, alias_blur), setting.scale)
    return filters.correlate(x, kernel, Border.REFLECT)


def motion_blur(x: Tensor, setting: Setting, radius: float, sigma: float) -> Tensor:
    """A one-sided trail at an angle between -45 and 45 degrees."""
    angles = 90 * setting.host_uniforms() - 45
    return filters.motion_blur(x, angles, setting.pixels(radius), setting.pixels(sigma))


def zoom_blur(x: Tensor, setting: Setting, start: float, stop: float, step: float) -> Tensor:
    """Mean of the image and its centre enlarged by each factor of the range."""
    factors = np.arange(start, stop, step).tolist()
    total = x.clone()
    for factor in factors:
        total += filters.clipped_zoom(x, factor)
    return total / (len(factors) + 1)


def glass_blur(x: Tensor, setting: Setting, sigma: float, max_delta: float, iterations: float) -> Tensor:
    """Blur, shuffle neighbouring pixels, blur again; 8 bits between, as published."""
    sigma, delta = setting.pixels(sigma), max(1, round(setting.pixels(max_delta)))
    height, width = x.shape[-2:]
    x = truncate(filters.gaussian_blur(x, sigma)) / 255
    u = setting.uniforms(int(iterations), 2, height, width)
    for offsets in (u * (2 * delta)).long().sub(delta).unbind(1):
        source = _shuffle_sources(offsets, delta).flatten(1)[:, None].expand(-1, x.shape[1], -1)
        x = x.flatten(2).gather(2, source).reshape(x.shape)
    return filters.gaussian_blur(x, sigma)


def _shuffle_sources(offsets: Tensor, delta: int) -> Tensor:
    """Find the source of each pixel after the shuffle: offsets (B, 2, H, W) -> flat indices (B, H, W).

    From the bottom right corner on, pixel p is overwritten with pixel p + offset(p). (The published code
    means to swap the two, but swaps views of one array, and so copies; what it makes of test images shows
    it.) A source later in reading order has been overwritten before, one earlier has not: a pixel points to
    a new or to an old pixel, and following the pointers in doubling strides resolves all chains at once.
    """
    batch, _, height, width = offsets.shape
    size = height * width
    here = torch.arange(size, device=offsets.device).reshape(height, width)
    shuffled = torch.zeros(height, width, dtype=torch.bool, device=offsets.device)
    shuffled[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1] = True

    source = torch.where(shuffled, here + offsets[:, 1] * width + offsets[:, 0], here).flatten(1)
    overwritten = (source > here.flatten()) & shuffled.flatten()[source]
    if not overwritten.any():
        return source.reshape(batch, height, width)
    old = here.flatten() + size
    pointers = torch.cat([torch.where(overwritten, source, source + size), old.expand(batch, -1)], dim=1)
    for _ in range(math.ceil(math.log2(size))):
        pointers = pointers.gather(1, pointers)
    return (pointers[:, :size] - size).reshape(batch, height, width)


def _disk(radius: float, alias_blur: float) -> Kernel:
    """A disk of equal weights on a 17x17 grid (larger beyond radius 8), smoothed by a 3x3 (5x5) Gaussian."""
    half, margin = (8, 1) if radius <= 8 else (int(radius), 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    smooth = np.exp(-0.5 * (np.arange(-margin, margin + 1) / alias_blur) ** 2)
    smooth /= smooth.sum()
    padded = np.pad(disk, margin, mode="reflect")
    rows = sum(w * padded[i : i + len(disk)] for i, w in enumerate(smooth))
    return np.asarray(sum(w * rows[:, i : i + len(disk)] for i, w in enumerate(smooth)))


def _rescale(kernel: Kernel, scale: float) -> Kernel:
    """A square kernel `scale` times as wide, by bilinear interpolation, of the same sum.

    (To scale the radius of a disk of whole pixels would make it jump: 0.9 pixels are no disk at all.)
    """
    half = len(kernel) // 2
    reach = math.ceil(half * scale)
    positions = np.arange(-reach, reach + 1) / scale
    weights = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(-half, half + 1)))
    scaled = weights @ kernel @ weights.T
    return np.asarray(scaled / scaled.sum() * kernel.sum())
