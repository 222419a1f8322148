"""The parts of the ODE-Net in torchdiffeq's MNIST example that ours have not (Chen et al., NeurIPS 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvStem(nn.Module):
    """conv3x3 without padding, then twice GN-ReLU-conv4x4/2."""

    def __init__(self, channels: int, features: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 3)
        self.norm1 = nn.GroupNorm(groups, features)
        self.conv2 = nn.Conv2d(features, features, 4, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(groups, features)
        self.conv3 = nn.Conv2d(features, features, 4, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(images)), inplace=True)
        h = F.relu(self.norm2(self.conv2(h)), inplace=True)
        out: Tensor = self.conv3(h)
        return out


class ResidualStem(nn.Module):
    """conv3x3 without padding, then two residual blocks of stride 2."""

    def __init__(self, channels: int, features: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, features, 3)
        self.block1 = ResidualBlock(features, groups)
        self.block2 = ResidualBlock(features, groups)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.block2(self.block1(self.conv(images)))
        return out


class ResidualBlock(nn.Module):
    """conv1x1/2(a) + conv3x3(ReLU(GN(conv3x3/2(a)))) with a = ReLU(GN(h)); convolutions without bias."""

    def __init__(self, features: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, features)
        self.shortcut = nn.Conv2d(features, features, 1, stride=2, bias=False)
        self.conv1 = nn.Conv2d(features, features, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, features)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        h = F.relu(self.norm1(h), inplace=True)
        inside = F.relu(self.norm2(self.conv1(h)), inplace=True)
        out: Tensor = self.shortcut(h) + self.conv2(inside)
        return out


class ConcatDrift(nn.Module):
    """f(t, h): GN-ReLU-conv(t)-GN-ReLU-conv(t)-GN, rows independent of each other.

    conv(t) sees one further channel, t everywhere. What it adds is t times what it adds at t = 1, and less at
    the border, where zeros pad it: unlike the bias of `layers.TimeConv`.
    """

    def __init__(self, features: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, features)
        self.time1 = nn.Conv2d(1, features, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, features)
        self.time2 = nn.Conv2d(1, features, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.norm3 = nn.GroupNorm(groups, features)

    def forward(self, t: float, h: Tensor) -> Tensor:
        time = torch.full((1, 1, *h.shape[-2:]), t, dtype=h.dtype, device=h.device)
        h = self.conv1(F.relu(self.norm1(h), inplace=True)) + self.time1(time)
        h = self.conv2(F.relu(self.norm2(h), inplace=True)) + self.time2(time)
        out: Tensor = self.norm3(h)
        return out
