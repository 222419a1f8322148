"""Linear filters that the recipes share.

They add up shifted copies of the batch in a fixed order, so that an image's result has the same bits
whatever batch it is in; only dense kernels, where that is slow, go through a convolution.
"""

import math
from enum import Enum
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = npt.NDArray[np.float64]

#: Weights below this cannot change an 8-bit value.
_NEGLIGIBLE = 1e-6
#: Number of non-zero weights from which on a convolution is faster than shifted sums.
_DENSE = 64


class Border(Enum):
    """How an image goes on beyond its border; example: the row a b c d."""

    #: a a | a b c d | d d
    EDGE = "edge"
    #: b a | a b c d | d c
    SYMMETRIC = "symmetric"
    #: c b | a b c d | c b (the default of OpenCV)
    REFLECT = "reflect"

    def indices(self, size: int, margin: int) -> Tensor:
        """Map positions -margin .. size + margin - 1 to positions inside: (size + 2 margin,) int64."""
        position = torch.arange(-margin, size + margin)
        if self is Border.EDGE:
            return position.clamp(0, size - 1)
        last = 2 * size - 1 if self is Border.SYMMETRIC else 2 * size - 2
        period = 2 * size if self is Border.SYMMETRIC else max(1, last)
        folded = position % period
        return torch.minimum(folded, last - folded) if size > 1 else torch.zeros_like(position)


def pad(x: Tensor, rows: int, columns: int, border: Border) -> Tensor:
    """(..., H, W) -> (..., H + 2 rows, W + 2 columns), for images of any size, even 1x1."""
    height, width = x.shape[-2:]
    if border is Border.EDGE:
        return F.pad(x, (columns, columns, rows, rows), mode="replicate")
    if border is Border.REFLECT and rows < height and columns < width:
        return F.pad(x, (columns, columns, rows, rows), mode="reflect")
    if border is Border.SYMMETRIC and rows <= height and columns <= width:
        above, below = x[..., :rows, :].flip(-2), x[..., height - rows :, :].flip(-2)
        x = torch.cat([above, x, below], -2) if rows else x
        before, after = x[..., :columns].flip(-1), x[..., width - columns :].flip(-1)
        return torch.cat([before, x, after], -1) if columns else x
    if rows:
        x = x.index_select(-2, border.indices(height, rows).to(x.device))
    if columns:
        x = x.index_select(-1, border.indices(width, columns).to(x.device))
    return x


def correlate(x: Tensor, kernel: Kernel, border: Border) -> Tensor:
    """Correlation of (B, C, H, W) with one kernel of odd height and width, as cv2.filter2D."""
    height, width = x.shape[-2:]
    padded = pad(x, kernel.shape[0] // 2, kernel.shape[1] // 2, border)
    taps = np.argwhere(np.abs(kernel) > _NEGLIGIBLE)
    if len(taps) >= _DENSE:
        weight = torch.from_numpy(kernel).to(x)[None, None]
        return F.conv2d(padded.flatten(0, 1)[:, None], weight).reshape(x.shape)
    out = torch.zeros_like(x)
    for row, column in taps.tolist():
        shifted = padded[..., row : row + height, column : column + width]
        out.add_(shifted, alpha=float(kernel[row, column]))
    return out


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> Kernel:
    """Weights at -r .. r with sum 1, where r is `truncate` sigmas, rounded; one weight for small sigmas."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())


def gaussian_blur(x: Tensor, sigma: float, *, truncate: float = 4.0, border: Border = Border.EDGE) -> Tensor:
    """Gaussian of `sigma` pixels, cut at `truncate` sigmas, as scipy.ndimage and skimage compute it."""
    kernel = gaussian_kernel(sigma, truncate)
    if len(kernel) == 1:
        return x
    return correlate(correlate(x, kernel[:, None], border), kernel[None], border)


def motion_blur(x: Tensor, angles: Tensor, radius: float, sigma: float) -> Tensor:
    """One-sided Gaussian trail along each image's angle, as ImageMagick: (B, C, H, W) -> the same.

    `angles` (B,) in degrees, on the CPU. Step i of 0 .. 2 radius looks i pixels along the angle, rounded to
    whole pixels, beyond the border at the nearest pixel. Images sorted by angle need the same steps in
    runs, so each step is a few sums over slices instead of a gather.
    """
    length = 2 * math.ceil(radius) + 1
    weights = np.exp(-0.5 * (np.arange(length) / sigma) ** 2)
    weights /= weights.sum()
    weights = weights[weights > _NEGLIGIBLE]
    order = angles.argsort(stable=True)
    radians = np.deg2rad(angles[order].double().numpy())
    steps = np.arange(len(weights))[:, None]
    down = np.ceil(steps * np.sin(radians) - 0.5).astype(int)
    right = np.ceil(steps * np.cos(radians) - 0.5).astype(int)

    margin, order = len(weights), order.to(x.device)
    padded = F.pad(x[order], (margin,) * 4, mode="replicate").contiguous()
    strides = padded.stride()
    blurred = torch.zeros(x.shape, device=x.device)
    # where the shifted picture of an image begins in `padded`, (steps, B): in runs of equal shifts
    shifts = (margin + down) * strides[2] + margin + right
    firsts = shifts + np.arange(len(x)) * strides[0]
    for shift, first, weight in zip(shifts, firsts, weights.tolist(), strict=True):
        ends = [*(np.flatnonzero(np.diff(shift)) + 1).tolist(), len(x)]
        for start, stop in pairwise([0, *ends]):
            shifted = padded.as_strided((stop - start, *x.shape[1:]), strides, int(first[start]))
            blurred.narrow(0, start, stop - start).add_(shifted, alpha=weight)
    return torch.empty_like(x).index_copy_(0, order, blurred)


def clipped_zoom(x: Tensor, factor: float) -> Tensor:
    """The centre of (B, C, H, W), enlarged `factor` >= 1 times bilinearly to the same shape.

    As published, the crop is the whole number of pixels that covers the image, and the surplus is cut.
    """
    height, width = x.shape[-2:]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    crop = x[..., top : top + rows, left : left + columns]
    size = round(rows * factor), round(columns * factor)
    large = F.interpolate(crop, size=size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[..., top : top + height, left : left + width]
