"""Triton kernels of noise. Import these modules only where Triton is: `keyed.has_kernels`."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Make the GPU of a tensor the current one, which is where Triton launches kernels, within a block."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def channels_innermost(states: Tensor) -> bool:
    """Whether states (draws, images, C, H, W) lie in memory as (draws, images, H, W, C), and only so."""
    if states.ndim != 5 or states.is_contiguous():
        return False
    channels, height, width = states.shape[2:]
    size = channels * height * width
    wanted = states.shape[1] * size, size, 1, width * channels, channels
    found = zip(states.shape, states.stride(), wanted, strict=True)
    return all(stride == there for length, stride, there in found if length > 1)


def lay_out(states: Tensor, *, innermost: bool) -> Tensor:
    """Return states (draws, images, C, H, W) with their channels innermost in memory or in the usual order.

    States that already lie so are returned as they are.
    """
    if not innermost:
        return states.contiguous()
    if channels_innermost(states):
        return states
    return states.movedim(2, -1).contiguous().movedim(-1, 2)


def empty_states(shape: tuple[int, ...], like: Tensor, *, innermost: bool) -> Tensor:
    """Return memory for states (draws, images, C, H, W) of the type of `like`, laid out as `lay_out` does."""
    if not innermost:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    turned = *shape[:2], *shape[3:], shape[2]
    return torch.empty(turned, dtype=like.dtype, device=like.device).movedim(-1, 2)
