"""Ordinary perturbations without severities: noise of a given size, rotations and translations.

They go by names with a parameter, such as `gaussian:0.1`, and map images (B, C, H, W) float32 in [0, 1] to
images of the same shape; `corrupt` clips them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.perturbations.corruptions.setting import Setting


def uniform(x: Tensor, setting: Setting, eps: float) -> Tensor:
    """Uniform noise in [-eps, eps], in units of the value range."""
    return x + eps * (2 * setting.uniforms(*x.shape[1:]) - 1)


def gaussian(x: Tensor, setting: Setting, sigma: float) -> Tensor:
    """Normal noise of standard deviation `sigma`, in units of the value range."""
    return x + sigma * setting.normals(*x.shape[1:])


def rotation(x: Tensor, setting: Setting, degrees: float) -> Tensor:
    """Rotated about the centre by `degrees`, clockwise or counter-clockwise at random; black outside."""
    sign = torch.where(setting.uniforms() < 0.5, -1.0, 1.0)
    angle = sign * math.radians(degrees)
    return _move(x, angle.cos(), angle.sin(), torch.zeros_like(angle), torch.zeros_like(angle))


def translation(x: Tensor, setting: Setting, pixels: float) -> Tensor:
    """Shifted by `pixels` in a random direction; black outside."""
    direction = 2 * math.pi * setting.uniforms()
    cosine, sine = torch.ones_like(direction), torch.zeros_like(direction)
    return _move(x, cosine, sine, pixels * direction.cos(), pixels * direction.sin())


def _move(x: Tensor, cosine: Tensor, sine: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Bilinear rotation and shift, all (B,): pixel p comes from R p + (right, down), seen from the centre."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device)[:, None] - (height - 1) / 2
    columns = torch.arange(width, device=x.device) - (width - 1) / 2
    cosine, sine, right, down = (v[:, None, None] for v in (cosine, sine, right, down))
    grid = torch.stack(
        [
            (cosine * columns - sine * rows + right) * 2 / width,
            (sine * columns + cosine * rows + down) * 2 / height,
        ],
        dim=-1,
    )
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
