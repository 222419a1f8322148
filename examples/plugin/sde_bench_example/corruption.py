"""A corruption: a recipe, and its parameters at severities 1 to 5."""

import torch
from torch import Tensor

from robustbench_sde.perturbations.corruptions import Corruption
from robustbench_sde.perturbations.corruptions.setting import Setting


def stripes(x: Tensor, setting: Setting, share: float) -> Tensor:
    """Rows of the sensor go dark, each with probability `share`.

    Images (B, C, H, W) float32 in [0, 1] become images of that shape; what is random comes from `setting`.
    """
    dark = setting.uniforms(1, x.shape[2], 1) < share
    return torch.where(dark, 0, x)


STRIPES = Corruption(
    "stripes", "digital", stripes, benchmark=False, severities=((0.02,), (0.05,), (0.1,), (0.2,), (0.3,))
)
