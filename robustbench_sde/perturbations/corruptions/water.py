"""The shading of water drops: the image processing inside the published spatter recipe.

The recipe chains functions of OpenCV on 8-bit images: edges (Canny), distance to the nearest edge,
histogram equalisation, an emboss filter. These are their equivalents over a batch of layers (B, 1, H, W).
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.perturbations.corruptions.filters import Border, correlate

#: Canny's thresholds on the gradient's 1-norm.
_WEAK, _STRONG = 50, 150
#: Distances are cut here, in pixels.
_FAR = 20.0
#: Lengths of a step to a side, of one along a diagonal and of a knight's move in the 5x5 chamfer metric, as
#: in OpenCV (G. Borgefors, "Distance transformations in digital images", 1986).
_SIDE, _DIAGONAL, _KNIGHT = 1.0, 1.4, 2.1969
_BOX = np.full((3, 3), 1 / 9)
_EMBOSS = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])
_SOBEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def droplets(liquid: Tensor) -> Tensor:
    """Opacity of water with `liquid` thickness, 0 where there is none: (B, 1, H, W), at most 1."""
    thickness = torch.floor(liquid * 255).clamp(0, 255)
    distance = edge_distance(canny(thickness))
    # means are truncated, as published; one of 8.9969 / 9, which chamfer lengths add up to, is below 1
    shading = equalise(torch.floor(correlate(distance, _BOX, Border.REFLECT) + 2**-13))
    shading = correlate(shading, _EMBOSS, Border.REFLECT).clamp(0, 255)
    shading = correlate(shading, _BOX, Border.REFLECT).round()
    opacity = thickness * shading
    return opacity / opacity.amax((1, 2, 3), keepdim=True).clamp(min=1)


def canny(x: Tensor) -> Tensor:
    """Edges of 8-bit values: (B, 1, H, W) -> bool, as cv2.Canny(x, 50, 150)."""
    dx = _pixels_first(correlate(x, _SOBEL, Border.EDGE))
    dy = _pixels_first(correlate(x, _SOBEL.T, Border.EDGE))
    across, along = dx.abs(), dy.abs()
    strength = across + along
    around = _pad(strength, 1, 0.0)
    height, width = strength.shape[:2]

    def neighbour(down: int, right: int) -> Tensor:
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    flat = along < across * math.tan(math.pi / 8)
    steep = along > across * math.tan(3 * math.pi / 8)
    falling = (dx < 0) == (dy < 0)
    peak = torch.where(
        falling,
        (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1)),
        (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1)),
    )
    peak = torch.where(steep, (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0)), peak)
    peak = torch.where(flat, (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1)), peak)
    weak = (peak & (strength > _WEAK)).to(x.dtype)
    edges = weak * (strength > _STRONG)
    around = _pad(edges, 1, 0.0)
    while True:  # weak edges count where a chain of them leads to a strong one
        grown = torch.maximum(torch.maximum(around[:-2], around[2:]), around[1:-1])
        grown = torch.maximum(torch.maximum(grown[:, :-2], grown[:, 2:]), grown[:, 1:-1]).mul_(weak)
        if torch.equal(grown, edges):
            return _images_first(edges.bool())
        around[1:-1, 1:-1] = edges = grown


def edge_distance(edges: Tensor) -> Tensor:
    """Chamfer distance to the nearest edge, at most 20 pixels: bool (B, 1, H, W) -> float32."""
    distance = torch.where(_pixels_first(edges), 0.0, _FAR)
    around = _pad(distance, 2, _FAR)
    while True:  # neighbours that are equally far share an addition
        beside = torch.minimum(around[:, 1:-3], around[:, 3:-1])
        beyond = torch.minimum(around[1:-1, :-4], around[1:-1, 4:])
        nearer = torch.minimum(around[1:-3, 2:-2], around[3:-1, 2:-2])
        torch.minimum(nearer, beside[2:-2], out=nearer).add_(_SIDE)
        torch.minimum(nearer, distance, out=nearer)
        further = torch.minimum(beside[1:-3], beside[3:-1]).add_(_DIAGONAL)
        torch.minimum(nearer, further, out=nearer)
        torch.minimum(beside[:-4], beside[4:], out=further)
        torch.minimum(further, torch.minimum(beyond[:-2], beyond[2:]), out=further).add_(_KNIGHT)
        torch.minimum(nearer, further, out=nearer)
        if torch.equal(nearer, distance):
            return _images_first(distance)
        around[2:-2, 2:-2] = distance = nearer


def equalise(x: Tensor) -> Tensor:
    """Histogram equalisation of 8-bit values by image, as cv2.equalizeHist: (B, 1, H, W) -> the same."""
    levels = x.flatten(1).long()
    counts = x.new_zeros(len(x), 256).scatter_add_(1, levels, x.new_ones(levels.shape))
    lowest = levels.amin(1, keepdim=True)
    first = counts.gather(1, lowest)
    others = levels.shape[1] - first
    table = ((counts.cumsum(1) - first) * (255 / others.clamp(min=1))).round()
    table = torch.where(others > 0, table, lowest)
    return table.gather(1, levels).reshape(x.shape)


def _pixels_first(x: Tensor) -> Tensor:
    """Copy (B, 1, H, W) to (H, W, B), in which shifted pictures are long runs of memory."""
    return x[:, 0].permute(1, 2, 0).contiguous()


def _images_first(x: Tensor) -> Tensor:
    """Copy (H, W, B) to (B, 1, H, W)."""
    return x.permute(2, 0, 1).contiguous()[:, None]


def _pad(x: Tensor, margin: int, value: float) -> Tensor:
    """Surround pictures by a margin of one value: (H, W, B) to (H + 2 margin, W + 2 margin, B)."""
    return F.pad(x, (0, 0, margin, margin, margin, margin), value=value)
