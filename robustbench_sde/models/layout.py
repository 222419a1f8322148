"""How states lie in memory: channels outermost, or innermost where convolutions are faster so."""

import torch
from torch import Tensor

from robustbench_sde.choices import Precision
from robustbench_sde.models.compute import Compute
from robustbench_sde.sde.keyed import has_kernels


def puts_channels_last(compute: Compute, precision: Precision, device: torch.device, *, frozen: bool) -> bool:
    """Whether a pass keeps its states with their channels innermost (NHWC).

    On an H100, convolutions with reduced precision are up to twice as fast so, and those in fp32 are not.
    The layout needs kernels of ours, which take states as they lie. torch's own normalisation and compiled
    drifts do not: they would copy states from one layout to the other in every step.

    Args:
        compute: choices of speed; `channels_last` switches the layout off.
        precision: of the convolutions.
        device: of the states.
        frozen: whether no gradient of a weight is wanted.
    """
    wanted = compute.channels_last and precision != "fp32"
    return wanted and frozen and not compute.compile and has_kernels(device)


def with_channels_last(states: Tensor) -> Tensor:
    """Return states (draws, images, C, H, W) with the same values and their channels innermost in memory."""
    rows: Tensor = states.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    turned: Tensor = rows.unflatten(0, states.shape[:2])
    return turned
