"""Crop and flip images at random, keyed by image id and epoch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sde.sde.draws import KeyedRandom, Stream


def augment(images: Tensor, ids: Tensor, *, padding: int, flip: bool, seed: int, epoch: int) -> Tensor:
    """Zero-pad, crop back to size at a random place, and mirror half of the images.

    Args:
        images: (B, C, H, W) uint8.
        ids: (B,) int64 image ids.
        padding: pixels of zeros on each side; 0: no crop.
        flip: whether to mirror half of the images left to right.

    Returns:
        (B, C, H, W) uint8.
    """
    if not padding and not flip:
        return images
    dice = KeyedRandom(seed, Stream.TRAIN, "augment").uniforms(ids, (3,), draw=epoch)
    height, width = images.shape[2:]
    top, left = (dice[:, :2] * (2 * padding + 1)).long().unbind(1)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    if flip:
        columns = torch.where(dice[:, 2:] < 0.5, columns, columns.flip(1))
    padded = F.pad(images, (padding,) * 4)
    batch = torch.arange(len(images))[:, None, None]
    cropped = padded.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]]
    return cropped.movedim(-1, 1)
