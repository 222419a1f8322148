"""The ODE-Net of torchdiffeq's MNIST example (Chen et al., NeurIPS 2018): parts, and files of weights."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_sde.errors import BenchError
from robustbench_sde.models.fused import fused_norm, norms_fuse, with_bias, without_bias
from robustbench_sde.models.renaming import Foreign, renamed


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
        if norms_fuse(h, self.norm1):
            offsets = [
                with_bias(conv, of_time(time))
                for of_time, conv in ((self.time1, self.conv1), (self.time2, self.conv2))
            ]
            h = without_bias(self.conv1, fused_norm(h, self.norm1))
            h = without_bias(self.conv2, fused_norm(h, self.norm2, offset=offsets[0]))
            return fused_norm(h, self.norm3, relu=False, offset=offsets[1])
        h = self.conv1(F.relu(self.norm1(h), inplace=True)) + self.time1(time)
        h = self.conv2(F.relu(self.norm2(h), inplace=True)) + self.time2(time)
        out: Tensor = self.norm3(h)
        return out


#: places in their `nn.Sequential` to our names, for convolutional and residual downsampling
_CONV = {"0": "stem.conv1", "1": "stem.norm1", "3": "stem.conv2", "4": "stem.norm2", "6": "stem.conv3"}
_RESIDUAL = {"0": "stem.conv"}
_BLOCK = {"norm1": "norm1", "norm2": "norm2"}
_BLOCK_WITHOUT_BIAS = {"downsample": "shortcut", "conv1": "conv1", "conv2": "conv2"}
#: names within the ODE block, theirs to ours
_DRIFT = {
    "norm1": "norm1",
    "conv1._layer": "conv1",
    "norm2": "norm2",
    "conv2._layer": "conv2",
    "norm3": "norm3",
}


def from_odenet(path: Path, foreign: dict[str, Tensor], noise: str, sigma: float | None) -> Foreign:
    """The state dict of an ODE-Net with either downsampling; an ODE has no noise.

    Raises:
        BenchError: it is not such a state dict, or a noise was named.
    """
    if noise != "none" or sigma:
        raise BenchError(f"{path}: an odenet is an ODE: leave `noise` and `sigma` out")
    residual = any(name.startswith("1.conv1.") for name in foreign)
    flow = 3 if residual else 7
    places = dict(_RESIDUAL if residual else _CONV)
    places |= {f"{flow}.odefunc.{old}": f"flows.0.{new}" for old, new in _DRIFT.items()}
    places |= {f"{flow + 1}": "head.norm", f"{flow + 5}": "head.linear"}
    without_bias: dict[str, str] = {}
    if residual:
        for block in (1, 2):
            places |= {f"{block}.{old}": f"stem.block{block}.{new}" for old, new in _BLOCK.items()}
            without_bias |= {
                f"{block}.{old}": f"stem.block{block}.{new}" for old, new in _BLOCK_WITHOUT_BIAS.items()
            }
    names = {f"{old}.{part}": f"{new}.{part}" for old, new in places.items() for part in ("weight", "bias")}
    names |= {f"{old}.weight": f"{new}.weight" for old, new in without_bias.items()}
    kind = "residual" if residual else "convolutional"
    weights = renamed(path, foreign, names, f"an odenet with {kind} downsampling")
    for index in (1, 2):  # their first channel is the time
        both = weights[f"flows.0.conv{index}.weight"]
        weights[f"flows.0.time{index}.weight"] = both[:, :1].clone()
        weights[f"flows.0.conv{index}.weight"] = both[:, 1:].clone()
    # trained through dopri5 at a tolerance of 1e-3: eight steps of rk4 are nearer to the solution
    return Foreign("odenet-residual" if residual else "odenet", weights, solver="rk4")
