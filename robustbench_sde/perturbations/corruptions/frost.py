"""Layers of frost: cut from the original photographs, or synthesised in their likeness.

The published recipe blends images with crops of five photographs that cannot be shipped. The synthetic
texture is a random field with the mean colour, contrast, skewness and power spectrum of one of the five. Its
brightness varies, its hue does not: a simplification that only the first photograph would notice.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.corruptions.setting import Setting

#: The published code lists six photographs and draws among the first five.
PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")

_RGB = tuple[float, float, float]


@dataclass(frozen=True)
class _Style:
    """Statistics of random crops of one photograph at the scale of CIFAR-10-C; values 0 to 255."""

    mean: _RGB
    #: standard deviation of a crop's mean, from crop to crop
    wander: _RGB
    #: standard deviation within a crop
    contrast: _RGB
    #: strength of an exponential warp: negative for dark cracks in bright ice, never 0
    skew: float
    #: the power falls as frequency ** -slope, in cycles per pixel, down to ...
    slope: float
    #: ... the level of what folds back because only every fifth pixel is taken
    folded: float


_BRIGHT_ICE = _Style((199, 204, 213), (8.0, 8.8, 9.2), (17.6, 18.0, 18.6), -0.31, 2.10, 28.0)
_STYLES = (
    _Style((77, 148, 165), (16.8, 9.3, 7.7), (21.5, 13.3, 12.8), 0.14, 2.76, 101.0),
    _BRIGHT_ICE,
    _BRIGHT_ICE,  # frost2 and frost3 are nearly the same photograph
    _Style((144, 158, 171), (10.0, 9.9, 10.7), (25.9, 26.0, 27.0), -0.03, 2.16, 76.0),
    _Style((104, 115, 127), (17.3, 16.7, 15.8), (35.0, 34.6, 33.9), 0.10, 1.55, 4.0),
)


def check_photographs(folder: Path) -> None:
    """Raise BenchError unless all photographs are in `folder`."""
    if not all((folder / name).is_file() for name in PHOTOGRAPHS):
        raise BenchError(f"{folder} lacks frost photographs; it needs {', '.join(PHOTOGRAPHS)}")


def synthetic_frost(setting: Setting, height: int, width: int) -> Tensor:
    """One texture per image: (B, 3, H, W) float32 in [0, 1].

    Made on the host in float64: a Fourier transform's last bits depend on the batch, here they do not matter.
    """
    choice = (setting.host_uniforms(part="style") * len(_STYLES)).long()
    noise = setting.host_normals(height, width).double()
    shade = setting.host_normals(1, part="shade").double()
    layer = noise.new_empty(len(noise), 3, height, width)
    for index in choice.unique().tolist():
        style, members = _STYLES[index], choice == index
        field = _warp(_coloured_noise(noise[members], style, setting.frost_step), style.skew)
        mean, wander, contrast = noise.new_tensor([style.mean, style.wander, style.contrast])
        crop_mean = (mean + wander * shade[members])[..., None, None]
        layer[members] = crop_mean + contrast[:, None, None] * field[:, None]
    return (layer / 255).clamp(0, 1).to(torch.float32).to(setting.device)


def photographed_frost(setting: Setting, height: int, width: int) -> Tensor:
    """A random crop of a random original per image: (B, 3, H, W) float32 in [0, 1]."""
    layers = []
    for which, down, right in setting.host_uniforms(3).tolist():
        path = Path(setting.frost_dir or "") / PHOTOGRAPHS[int(which * len(PHOTOGRAPHS))]
        written = path.stat().st_mtime_ns if path.exists() else 0
        photograph = _photograph(path, written, setting.frost_step, height, width)
        top = int(down * (photograph.shape[1] - height))
        left = int(right * (photograph.shape[2] - width))
        layers.append(photograph[:, top : top + height, left : left + width])
    return torch.stack(layers).to(setting.device).to(torch.float32) / 255


def _coloured_noise(white: Tensor, style: _Style, step: float) -> Tensor:
    """White noise (B, H, W) given the style's power spectrum: unit variance, no mean."""
    height, width = white.shape[-2:]
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    power = frequency**-style.slope + style.folded * ((step - 1) / 4) ** 2
    power[0, 0] = 0
    power /= max(power.mean(), np.finfo(float).tiny)
    amplitude = torch.from_numpy(np.sqrt(power[:, : width // 2 + 1])).to(white)
    field: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(height, width))
    return field


def _warp(field: Tensor, skew: float) -> Tensor:
    """Standard normal values made log-normal, mirrored if `skew` < 0; mean 0 and variance 1 again."""
    variance = skew**2
    spread = math.sqrt(math.exp(variance) * math.expm1(variance))
    return math.copysign(1 / spread, skew) * (torch.exp(skew * field) - math.exp(variance / 2))


@lru_cache(maxsize=2 * len(PHOTOGRAPHS))
def _photograph(path: Path, written: int, step: float, height: int, width: int) -> Tensor:
    """A photograph with every `step`-th pixel taken, enlarged where too small: (3, >= H, >= W) uint8.

    `written` is when, so that another one of that name is read anew.
    """
    try:
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except OSError as error:
        wanted = ", ".join(PHOTOGRAPHS)
        raise BenchError(f"{path}: no readable frost photograph; the folder needs {wanted}") from error
    tall, wide = pixels.shape[1:]
    scale = max(1 / step, height / tall, width / wide)
    size = max(height, round(tall * scale)), max(width, round(wide * scale))
    resized = F.interpolate(pixels[None].float(), size=size, mode="bilinear", align_corners=False)
    return resized[0].round().to(torch.uint8)
