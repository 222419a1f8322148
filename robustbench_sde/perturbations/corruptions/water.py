"""The shading of water drops: the image processing inside the published spatter recipe.

The recipe chains functions of OpenCV on 8-bit images: edges (Canny), distance to the nearest edge,
histogram equalisation, an emboss filter. These are their equivalents over a batch of layers (B, 1, H, W).
"""

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.perturbations.corruptions.filters import Border, correlate

#: Canny's thresholds on the gradient's 1-norm.
_WEAK, _STRONG = 50, 150
#: Distances are cut here, in pixels.
_FAR = 20.0
#: Moves of the 5x5 chamfer metric, as in OpenCV (G. Borgefors, "Distance transformations in digital images",
#: 1986): rows, columns, length.
_MOVES = [
    (dy, dx, {1: 1.0, 2: 1.4, 5: 2.1969}[dy * dy + dx * dx])
    for dy in range(-2, 3)
    for dx in range(-2, 3)
    if dy * dy + dx * dx in (1, 2, 5)
]
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
    dx = correlate(x, _SOBEL, Border.EDGE)
    dy = correlate(x, _SOBEL.T, Border.EDGE)
    strength = dx.abs() + dy.abs()
    neighbour = partial(_neighbour, strength)
    flat = dy.abs() < dx.abs() * math.tan(math.pi / 8)
    steep = dy.abs() > dx.abs() * math.tan(3 * math.pi / 8)
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
    while True:  # weak edges count where a chain of them leads to a strong one
        column = torch.maximum(edges, torch.maximum(_neighbour(edges, -1, 0), _neighbour(edges, 1, 0)))
        grown = (
            torch.maximum(column, torch.maximum(_neighbour(column, 0, -1), _neighbour(column, 0, 1))) * weak
        )
        if torch.equal(grown, edges):
            return edges.bool()
        edges = grown


def edge_distance(edges: Tensor) -> Tensor:
    """Chamfer distance to the nearest edge, at most 20 pixels: bool (B, 1, H, W) -> float32."""
    height, width = edges.shape[-2:]
    distance = torch.where(edges, 0.0, _FAR)
    while True:
        around = F.pad(distance, (2, 2, 2, 2), value=_FAR)
        nearer = distance
        for dy, dx, length in _MOVES:
            moved = around[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
            nearer = torch.minimum(nearer, moved + length)
        if torch.equal(nearer, distance):
            return distance
        distance = nearer


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


def _neighbour(x: Tensor, down: int, right: int) -> Tensor:
    """Neighbour of each pixel at (down, right), 0 beyond the border: (B, 1, H, W) to (B, 1, H, W)."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    return padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]
