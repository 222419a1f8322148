"""The networks of Liu et al. (CVPR 2020) as in their released code: parts, and files of weights."""

import math
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.models.fused import fused_norm, norms_fuse, with_bias, without_bias
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.published.architectures import stem_widths
from robustbench_sde.models.renaming import Foreign, renamed
from robustbench_sde.models.strict import first_problem

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
        if norms_fuse(h, self.norm1):
            offset = with_bias(self.conv1, of_time)
            h = without_bias(self.conv1, fused_norm(h, self.norm1))
            h = without_bias(self.conv2, fused_norm(h, self.norm2, offset=offset))
            h = without_bias(self.conv3, fused_norm(h, self.norm3, offset=self.conv2.bias))
            return fused_norm(h, self.norm4, relu=False, offset=self.conv3.bias)
        h = self.conv1(F.relu(self.norm1(h), inplace=True)) + of_time
        h = self.conv2(F.relu(self.norm2(h), inplace=True))
        h = self.conv3(F.relu(self.norm3(h), inplace=True))
        out: Tensor = self.norm4(h)
        return out


_FLOW = re.compile(r"multiscale_flows\.flows\.(\d+)\.")
#: names of theirs to ours, weight and bias each
_ENDS = {
    "downsampling_layers.0": "stem.conv1",
    "downsampling_layers.1": "stem.norm1",
    "downsampling_layers.3": "stem.conv2",
    "downsampling_layers.4": "stem.norm2",
    "downsampling_layers.6": "stem.conv3",
    "fc_layers.0": "head.norm",
    "fc_layers.4": "head.linear",
}
#: names within a flow, theirs to ours
_DRIFT = {f"flow_fn.{name}": name for name in ("norm1", "norm2", "conv2", "norm3", "conv3", "norm4")}
_DRIFT |= {"flow_fn.conv1._layer": "conv1"}
#: tensors that a flow stores of its noise, by kind; their dropout is a jump process
_NOISE = {
    "none": {"sigma": "diffusion.sigma"},  # which is 0
    "additive": {"sigma": "diffusion.sigma"},
    "multiplicative": {"sigma": "diffusion.sigma"},
    "jump": {"sigma": "jump.scale", "rate": "jump.rate"},
}


def from_liu2020(path: Path, foreign: dict[str, Tensor], noise: str, sigma: float | None) -> Foreign:
    """A state dict of drift version "v2", trained with `noise`, which the file does not say.

    Raises:
        BenchError: it is not such a state dict, or sigma is not the one in it.
    """
    if noise not in _NOISE:
        hint = "; their dropout is a jump process: choose jump" if noise == "dropout" else ""
        raise BenchError(f"{unknown_name('noise', noise, _NOISE)}{hint}")
    flows = len({found[1] for name in foreign if (found := _FLOW.match(name))})
    weights = _weights(path, foreign, flows, noise)
    return Foreign("liu2020", weights, flows, noise=_noise_term(path, foreign, noise, sigma))


def _weights(path: Path, foreign: dict[str, Tensor], flows: int, noise: str) -> dict[str, Tensor]:
    """Our names; the weights of conv(t) part into those of the state and those of time."""
    names = dict(_ENDS)
    for flow in range(max(1, flows)):
        there = f"multiscale_flows.flows.{flow}"
        names |= {f"{there}.{old}": f"flows.{flow}.{new}" for old, new in _DRIFT.items()}
    ours = {f"{old}.{part}": f"{new}.{part}" for old, new in names.items() for part in ("weight", "bias")}
    beside = {
        f"multiscale_flows.flows.{flow}.{name}" for flow in range(flows) for name in _NOISE[noise].values()
    }
    weights = renamed(path, foreign, ours, f"a liu2020 network with {noise} noise", beside=beside)
    for flow in range(flows):
        both = weights[f"flows.{flow}.conv1.weight"]
        weights[f"flows.{flow}.time.weight"] = both[:, :TIME_CHANNELS].clone()
        weights[f"flows.{flow}.conv1.weight"] = both[:, TIME_CHANNELS:].clone()
    return weights


def _noise_term(path: Path, foreign: dict[str, Tensor], noise: str, sigma: float | None) -> NoiseSpec:
    values = {}
    for field, name in _NOISE[noise].items():
        found = [tensor.flatten() for key, tensor in foreign.items() if key.endswith(f".{name}")]
        numbers = set(torch.cat(found).tolist())
        if len(numbers) != 1:
            raise BenchError(
                f"{path}: {name} must be one number, the same in all flows, not {sorted(numbers)}"
            )
        values[field] = round(numbers.pop(), 6)  # they store float32
    stored = values["sigma"]
    if noise == "none" and stored:
        raise BenchError(
            f"{path} was trained with sigma {stored:g}: say which `noise`, additive or multiplicative"
        )
    if sigma is not None and stored != sigma:
        raise BenchError(
            f"{path} was trained with sigma {stored:g}, not {sigma:g}; leave `sigma` out, "
            "and give another one when you evaluate"
        )
    try:
        return NoiseSpec.model_validate({"kind": noise, **values})
    except ValidationError as error:
        raise first_problem(error, f"{path}: noise") from error
