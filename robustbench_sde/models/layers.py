"""The parts of the built-in networks: stem, drift, head."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_sde.models.fused import fused_norm, norms_fuse, without_bias


class Stem(nn.Sequential):
    """Strided 3x3 convolutions from images to h(0), GroupNorm and ReLU between them."""

    def __init__(self, channels: int, features: int, strides: Sequence[int], groups: int) -> None:
        super().__init__()
        for index, stride in enumerate(strides):
            if index:
                self.add_module(f"norm{index}", nn.GroupNorm(groups, features))
                self.add_module(f"relu{index}", nn.ReLU(inplace=True))
            inputs = features if index else channels
            self.add_module(f"conv{index + 1}", nn.Conv2d(inputs, features, 3, stride=stride, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        h, layers = images, list(self)
        while layers:
            match layers:
                case [nn.Conv2d() as conv, nn.GroupNorm() as norm, nn.ReLU(), *layers] if norms_fuse(h, norm):
                    h = fused_norm(without_bias(conv, h), norm, offset=conv.bias)
                case [layer, *layers]:
                    h = layer(h)
        return h


class TimeConv(nn.Conv2d):
    """A 3x3 convolution whose bias is affine in time: w * h + b + t c.

    Time enters as a bias and not as a concatenated channel: the same inside the image, and free.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, features, 3, padding=1)
        self.bias: nn.Parameter  # the base class allows None
        self.time = nn.Parameter(torch.zeros(features))

    def at(self, t: float, h: Tensor) -> Tensor:
        """The convolution at time t."""
        return F.conv2d(h, self.weight, self.bias_at(t), padding=1)

    def bias_at(self, t: float) -> Tensor:
        """The bias at time t: (features,)."""
        if torch.compiler.is_compiling():  # which takes alpha for a constant and compiles anew for every t
            return self.bias + t * self.time
        return torch.add(self.bias, self.time, alpha=t)


class ConvDrift(nn.Module):
    """f(t, h): GN-ReLU-conv(t)-GN-ReLU-conv(t)-GN, rows independent of each other.

    The last normalisation bounds the drift, so that no depth T can make the state explode by itself.
    """

    def __init__(self, features: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, features)
        self.conv1 = TimeConv(features)
        self.norm2 = nn.GroupNorm(groups, features)
        self.conv2 = TimeConv(features)
        self.norm3 = nn.GroupNorm(groups, features)

    def forward(self, t: float, h: Tensor) -> Tensor:
        if norms_fuse(h, self.norm1):
            h = without_bias(self.conv1, fused_norm(h, self.norm1))
            h = without_bias(self.conv2, fused_norm(h, self.norm2, offset=self.conv1.bias_at(t)))
            return fused_norm(h, self.norm3, relu=False, offset=self.conv2.bias_at(t))
        h = self.conv1.at(t, F.relu(self.norm1(h), inplace=True))
        h = self.conv2.at(t, F.relu(self.norm2(h), inplace=True))
        out: Tensor = self.norm3(h)
        return out


class Head(nn.Module):
    """GN-ReLU-global average-linear: h(T) to logits."""

    def __init__(self, features: int, classes: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, features)
        self.linear = nn.Linear(features, classes)

    def forward(self, h: Tensor) -> Tensor:
        normal = fused_norm(h, self.norm) if norms_fuse(h, self.norm) else F.relu(self.norm(h))
        out: Tensor = self.linear(normal.mean((-2, -1)))
        return out
