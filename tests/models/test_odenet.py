"""ODE-Nets in the layout of torchdiffeq's MNIST example, held to torchdiffeq itself."""

import argparse

import pytest
import torch
from builders import make_data
from torch import nn
from torchdiffeq import odeint

from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.importing import import_checkpoint
from robustbench_sde.sde.draws import Draws, Stream


class Residual(nn.Module):
    """Their residual block, by its names."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(min(32, width), width), nn.GroupNorm(min(32, width), width)
        self.downsample = nn.Conv2d(width, width, 1, 2, bias=False)
        self.conv1 = nn.Conv2d(width, width, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x):
        x = self.norm1(x).relu()
        return self.downsample(x) + self.conv2(self.norm2(self.conv1(x)).relu())


class WithTime(nn.Module):
    """A convolution that sees the time as its first channel."""

    def __init__(self, width):
        super().__init__()
        self._layer = nn.Conv2d(width + 1, width, 3, 1, 1)

    def forward(self, t, x):
        return self._layer(torch.cat([t.expand(len(x), 1, *x.shape[2:]), x], 1))


class Drift(nn.Module):
    """The right-hand side, by its names."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.GroupNorm(min(32, width), width) for _ in range(3))
        self.conv1, self.conv2 = WithTime(width), WithTime(width)

    def forward(self, t, x):
        x = self.conv1(t, self.norm1(x).relu())
        return self.norm3(self.conv2(t, self.norm2(x).relu()))


class Flow(nn.Module):
    """The solution at t = 1, to a tolerance far below theirs."""

    def __init__(self, width):
        super().__init__()
        self.odefunc = Drift(width)

    def forward(self, x):
        return odeint(self.odefunc, x, torch.tensor([0.0, 1.0]), rtol=1e-6, atol=1e-6, method="dopri5")[1]


def theirs(residual, width=8, channels=1, classes=4):
    """The whole network, with random weights and norms."""
    first = nn.Conv2d(channels, width, 3)
    if residual:
        stem = [first, Residual(width), Residual(width)]
    else:
        stem = [first, nn.GroupNorm(min(32, width), width), nn.ReLU(), nn.Conv2d(width, width, 4, 2, 1),
                nn.GroupNorm(min(32, width), width), nn.ReLU(), nn.Conv2d(width, width, 4, 2, 1)]  # fmt: skip
    head = [nn.GroupNorm(min(32, width), width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*stem, Flow(width), *head, nn.Linear(width, classes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return net.requires_grad_(False)


@pytest.mark.parametrize("residual", [False, True], ids=["conv", "residual"])
def test_an_imported_odenet_computes_the_same(residual, tmp_path):
    """Logits are those of torchdiffeq at a tight tolerance; the file, options beside weights, is read."""
    net, data = theirs(residual), make_data(4)
    torch.save({"state_dict": net.state_dict(), "args": argparse.Namespace(tol=1e-3)}, tmp_path / "model.pth")
    header = import_checkpoint(
        tmp_path / "model.pth", tmp_path / "ours.safetensors", data, preset="odenet", noise="none"
    )
    assert (header.model.solver, header.model.noise) == ("rk4", ())
    images = to_float(data.images)
    ours = load_checkpoint(tmp_path / "ours.safetensors").logits(images, data.ids, Draws(0, Stream.SCORE))
    torch.testing.assert_close(ours[0], net(images), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"7.odefunc.norm1.weight": None, "13.x": 1},
            {},
            "missing: 7.odefunc.norm1.weight; unexpected: 13.x",
        ),
        ({}, {"noise": "additive"}, "an odenet is an ODE"),
        (
            {"0.weight": torch.zeros(8, 3, 3, 3)},
            {},
            "is for 3 channels and 4 classes, but random has 1 and 4",
        ),
        ({"6.weight": torch.zeros(8, 9, 4, 4)}, {}, "tensor 'stem.conv3.weight' has shape"),
    ],
)
def test_what_is_no_odenet_is_refused_in_one_line(change, options, message, tmp_path):
    """All names that differ are listed."""
    state = theirs(False).state_dict() | {k: torch.as_tensor(v) for k, v in change.items() if v is not None}
    torch.save({name: state[name] for name in state if change.get(name, 0) is not None}, tmp_path / "m.pth")
    with pytest.raises(BenchError, match=message):
        import_checkpoint(
            tmp_path / "m.pth",
            tmp_path / "o.safetensors",
            make_data(4),
            **{"preset": "odenet", "noise": "none"} | options,
        )
