"""Digital processing: light, colour, geometry and compression (Hendrycks & Dietterich, ICLR 2019).

Every recipe maps images (B, C, H, W) float32 in [0, 1] to images of the same shape; `corrupt` clips them.
Images of `pixelate` and `jpeg_compression` are whole levels from 0 to 255.
No parameter is a length in pixels: those of elastic_transform are shares of the smaller side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.perturbations.corruptions import filters
from robustbench_sde.perturbations.corruptions.colour import in_colour
from robustbench_sde.perturbations.corruptions.filters import Border
from robustbench_sde.perturbations.corruptions.jpeg import through_jpeg
from robustbench_sde.perturbations.corruptions.setting import Setting


def brightness(x: Tensor, setting: Setting, shift: float) -> Tensor:
    """HSV value + shift: colours are proportional to their value, which is the largest channel."""
    value = x.amax(1, keepdim=True)
    brighter = (value + shift).clamp_(max=1)
    black = value <= 0
    return (x * (brighter / value).masked_fill_(black, 0)).add_(brighter * black)


@in_colour
def saturate(x: Tensor, setting: Setting, factor: float, shift: float) -> Tensor:
    """HSV saturation * factor + shift; grey counts as hue 0, red, as in skimage."""
    value = x.amax(1, keepdim=True)
    spread = value - x.amin(1, keepdim=True)
    saturation = (spread / value).masked_fill_(value <= 0, 0).mul_(factor).add_(shift).clamp_(0, 1)
    grey = spread <= 0
    below = (value - x).div_(spread.masked_fill(grey, 1))
    below[:, 1:].add_(grey)
    return torch.sub(value, below.mul_(value * saturation), out=below)


def contrast(x: Tensor, setting: Setting, factor: float) -> Tensor:
    """(x - mean) * factor + mean, with the mean of each channel of the image."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean).mul_(factor).add_(mean)


def elastic_transform(x: Tensor, setting: Setting, alpha: float, sigma: float, affine: float) -> Tensor:
    """A random affine map of three points, then a smooth random displacement field, both bilinear.

    Shares of the smaller side: `alpha` of the displacement before smoothing, `sigma` of its smoothing,
    `affine` of the largest shift of the three points.
    """
    height, width = x.shape[-2:]
    side = min(height, width)
    x = _random_affine(x, affine * side * (2 * setting.uniforms(3, 2, part="affine") - 1))
    noise = 2 * setting.uniforms(2, height, width, part="displacement") - 1
    shift = filters.gaussian_blur(noise, sigma * side, truncate=3, border=Border.SYMMETRIC) * (alpha * side)
    rows, columns = _pixel_grid(x)
    return _sample(x, columns + shift[:, 0], rows + shift[:, 1], Border.SYMMETRIC)


def pixelate(x: Tensor, setting: Setting, share: float) -> Tensor:
    """Box resize to a `share` of the side and back, on 8 bits with each pass rounded, as Pillow does."""
    height, width = x.shape[-2:]
    across = _boxes(width, max(1, int(width * share))).to(x.device)
    down = _boxes(height, max(1, int(height * share))).to(x.device)
    return _half_up(torch.matmul(down, _half_up(x @ across.T)))


def jpeg_compression(x: Tensor, setting: Setting, quality: float) -> Tensor:
    """JPEG of the 8-bit image at `quality`, by libjpeg with the settings of Pillow."""
    return through_jpeg(x.to("cpu", torch.uint8), int(quality)).to(x)


def _random_affine(x: Tensor, shifts: Tensor) -> Tensor:
    """The affine map that moves three points of a right angle around the centre by (B, 3, 2) `shifts`.

    The points are centre + (s, s), + (s, -s) and + (-s, -s) as (x, y), s a third of the smaller side.
    """
    height, width = x.shape[-2:]
    s = min(height, width) // 3
    if s == 0:  # too small to have three different points
        return x
    source = torch.tensor([width // 2 + s, height // 2 + s], device=x.device)
    target, corner, opposite = (shifts + torch.tensor([[s, s], [s, -s], [-s, -s]], device=x.device)).unbind(1)
    (a, c), (b, d) = ((v / (2 * s)).unbind(-1) for v in (corner - opposite, target - corner))
    determinant = a * d - b * c
    inverse = torch.where(determinant == 0, 0.0, 1 / determinant)[:, None, None]
    a, b, c, d = (v[:, None, None] for v in (a, b, c, d))
    rows, columns = _pixel_grid(x)
    origin = target + source - s
    dx, dy = columns - origin[:, 0, None, None], rows - origin[:, 1, None, None]
    return _sample(
        x,
        source[0] + (d * dx - b * dy) * inverse,
        source[1] + (a * dy - c * dx) * inverse,
        Border.REFLECT,
    )


def _pixel_grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel: (H, W) float32 each."""
    rows = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)
    columns = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return grid[0], grid[1]


def _sample(x: Tensor, columns: Tensor, rows: Tensor, border: Border) -> Tensor:
    """Bilinear values of (B, C, H, W) at (B, H, W) positions in pixels."""
    height, width = x.shape[-2:]
    aligned = border is Border.REFLECT and min(height, width) > 1
    if aligned:
        grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=-1)
    else:
        grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=aligned)


def _boxes(length: int, size: int) -> Tensor:
    """(length, length) weights by which each value becomes the mean of that one of `size` boxes it falls in.

    Pillow's box filter down to `size` values and back up to `length`, both at once: repeating a mean and
    rounding it may change places.
    """
    step = length / size
    position = torch.arange(length, dtype=torch.float64)
    centre = ((torch.arange(size, dtype=torch.float64) + 0.5) * step)[:, None]
    # in Pillow's order of operations, which decides ties at the edge of a box
    distance = (position - centre + 0.5) * (1 / step)
    window = (position >= (centre - step / 2 + 0.5).floor()) & (position < (centre + step / 2 + 0.5).floor())
    inside = (window & (distance > -0.5) & (distance <= 0.5)).to(torch.float32)
    box = ((position + 0.5) * (size / length)).long()
    return (inside / inside.sum(1, keepdim=True))[box]


def _half_up(means: Tensor) -> Tensor:
    """Rounded in place; the order of a few whole numbers' summation does not change the result."""
    return means.add_(0.5 + 2**-13).floor_()
