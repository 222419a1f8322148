"""Layers that CUDA computes in fewer, faster kernels than torch does, for frozen networks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_sde.sde.keyed import has_kernels

#: most entries of a group that a kernel normalises in its registers
LARGEST_GROUP = 16384
#: fewest channels from which `_SameConvolution` beats the gradient of cuDNN in single precision
_CHANNELS = 64
#: rows from which it does with fewer channels, too
_ROWS = 2048


def norms_fuse(h: Tensor, norm: nn.GroupNorm) -> bool:
    """Whether kernels normalise states `h` (rows, C, H, W): on CUDA, without gradients of weights.

    A compiler that is at work fuses by itself.
    """
    if torch.compiler.is_compiling() or not has_kernels(h.device):
        return False
    frozen = not (torch.is_grad_enabled() and norm.weight.requires_grad)
    return frozen and h[0].numel() // norm.num_groups <= LARGEST_GROUP


def fused_norm(h: Tensor, norm: nn.GroupNorm, *, relu: bool = True, offset: Tensor | None = None) -> Tensor:
    """ReLU(GN(h + offset)), or GN(h + offset), in one kernel; for states that `norms_fuse` has agreed to.

    Args:
        h: (rows, C, H, W).
        norm: the normalisation, with frozen weights.
        relu: whether ReLU follows.
        offset: (C,) or (C, H, W): the bias of the convolution that made h.

    Returns:
        (rows, C, H, W) float32; under autocast, before a convolution (`relu`), in its type.
    """
    from robustbench_sde.models.kernels.group_norm import group_norm

    kind = h.device.type
    reduced = relu and torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if reduced else torch.float32
    return group_norm(h, norm, relu=relu, offset=offset, dtype=dtype)


def with_bias(conv: nn.Conv2d, shift: Tensor) -> Tensor:
    """`shift` (1, C, H, W) and the bias of a convolution, as an offset (C, H, W) of a norm."""
    return shift[0] if conv.bias is None else shift[0] + conv.bias[:, None, None]


def without_bias(conv: nn.Conv2d, h: Tensor) -> Tensor:
    """The convolution alone; the norm after it adds the bias on its way."""
    weight = conv.weight
    single = not (torch.is_autocast_enabled(h.device.type) or torch.backends.cudnn.allow_tf32)
    slow = weight.shape[0] >= _CHANNELS or len(h) >= _ROWS
    if single and slow and weight.shape[0] == weight.shape[1] and _keeps_size(conv):
        same: Tensor = _SameConvolution.apply(h, weight)
        return same
    return F.conv2d(h, weight, None, conv.stride, conv.padding)


def _keeps_size(conv: nn.Conv2d) -> bool:
    plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == "zeros"
    return plain and all(
        size % 2 == 1 and padding == size // 2
        for size, padding in zip(conv.kernel_size, conv.padding, strict=True)
    )


class _SameConvolution(torch.autograd.Function):
    """A convolution of odd size with zeros around it; its gradient is one with the weights turned round.

    For that of 64 channels on 8x8 states cuDNN takes Fourier transforms, 5.5 times as slow on an H100.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv2d(h, weight, None, padding="same")

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return F.conv2d(g, weight.flip(2, 3).transpose(0, 1), None, padding="same"), None
