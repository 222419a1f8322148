"""What torchdiffeq's MNIST example (`examples/odenet_mnist.py`) saves, under our names."""

from pathlib import Path

from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.foreign import Foreign, renamed

#: theirs to ours, the places in their `nn.Sequential`; of convolutional and residual downsampling
_CONV = {"0": "stem.conv1", "1": "stem.norm1", "3": "stem.conv2", "4": "stem.norm2", "6": "stem.conv3"}
_RESIDUAL = {"0": "stem.conv"}
_BLOCK = {"norm1": "norm1", "norm2": "norm2"}
_BLOCK_WITHOUT_BIAS = {"downsample": "shortcut", "conv1": "conv1", "conv2": "conv2"}
#: the same within the ODE block
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
        raise BenchError(f"{path}: an odenet is an ODE: leave --noise and --sigma out")
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
