"""The parts of the networks of Liu et al. (CVPR 2020) that ours have not, as in the code they released."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of the encoding of time.
TIME_CHANNELS = 64


class HeavyStem(nn.Module):
    """conv3x3-GN-ReLU-conv3x3-GN-ReLU-conv4x4/2 to a quarter, half and all of the channels."""

    def __init__(self, channels: int, features: int, groups: int) -> None:
        super().__init__()
        narrow, middle = stem_widths(features)
        self.conv1 = nn.Conv2d(channels, narrow, 3, padding=1)
        self.norm1 = nn.GroupNorm(min(groups, narrow), narrow)
        self.conv2 = nn.Conv2d(narrow, middle, 3, padding=1)
        self.norm2 = nn.GroupNorm(min(groups, middle), middle)
        self.conv3 = nn.Conv2d(middle, features, 4, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(images)), inplace=True)
        h = F.relu(self.norm2(self.conv2(h)), inplace=True)
        out: Tensor = self.conv3(h)
        return out


def stem_widths(features: int) -> tuple[int, int]:
    """Channels after the first and the second convolution of the stem."""
    return features // 4, features // 2


class SinusoidalDrift(nn.Module):
    """f(t, h), drift "v2": GN-ReLU-conv(t)-GN-ReLU-conv-GN-ReLU-conv-GN, rows independent of each other.

    conv(t) sees 64 further channels, constant over the image: sin and cos of t w_i, w_i = 100^(-i/31). What
    they add is the same for all rows, and computed once; at the border, where zeros pad them, it is less.
    """

    def __init__(self, features: int, groups: int) -> None:
        super().__init__()
        half = TIME_CHANNELS // 2
        frequencies = torch.exp(torch.arange(half, device="cpu") * -(math.log(100) / (half - 1)))
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.norm1 = nn.GroupNorm(groups, features)
        self.time = nn.Conv2d(TIME_CHANNELS, features, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, features)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.norm3 = nn.GroupNorm(groups, features)
        self.conv3 = nn.Conv2d(features, features, 3, padding=1)
        self.norm4 = nn.GroupNorm(groups, features)

    def forward(self, t: float, h: Tensor) -> Tensor:
        angles = t * self.frequencies
        encoding = torch.cat([angles.sin(), angles.cos()]).view(1, -1, 1, 1)
        of_time = self.time(encoding.expand(-1, -1, *h.shape[2:]))
        h = self.conv1(F.relu(self.norm1(h), inplace=True)) + of_time
        h = self.conv2(F.relu(self.norm2(h), inplace=True))
        h = self.conv3(F.relu(self.norm3(h), inplace=True))
        out: Tensor = self.norm4(h)
        return out


def pooled(h: Tensor, scale: int) -> Tensor:
    """Means over squares of `scale` x `scale`: (rows, C, H, W) to (rows, C, H // scale, W // scale)."""
    return h if scale == 1 else F.avg_pool2d(h, scale)


def enlarged(h: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour copies in the size of `like`."""
    return h if h.shape[-2:] == like.shape[-2:] else F.interpolate(h, size=like.shape[-2:], mode="nearest")
