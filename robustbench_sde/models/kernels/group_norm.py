"""GroupNorm with ReLU in one kernel, and its gradient with respect to the states, for frozen networks.

torch takes three to four kernels for ReLU(GN(x + b)) and as many for the gradient, each of which reads and
writes all states. Here each state is read once and written once in either direction. What is kept for the
gradient is x, and two numbers a group. States stay as they lie in memory, with channels outermost (NCHW) or
innermost (NHWC).
"""

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from robustbench_sde.sde.kernels import on_device_of

#: entries of a program: as many groups as fit
_ENTRIES = 2048


def group_norm(
    x: Tensor,
    norm: nn.GroupNorm,
    *,
    relu: bool,
    offset: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """GN(x + offset), through ReLU if `relu` is true; differentiable in x alone.

    Args:
        x: (rows, C, H, W) float32 or bfloat16.
        norm: with weights.
        offset: (C,) or (C, H, W): the bias of the convolution that made x.
        dtype: of the result; everything is computed in float32.

    Returns:
        (rows, C, H, W), in the memory layout of `x`.
    """
    out: Tensor = _GroupNorm.apply(x, norm.weight, norm.bias, offset, norm.num_groups, norm.eps, relu, dtype)
    return out


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        groups: int,
        eps: float,
        relu: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        x = x if _innermost(x) else x.contiguous()
        out = torch.empty_like(x, dtype=dtype)
        offset = None if offset is None else offset.contiguous()
        statistics = torch.empty((2, len(x), groups), dtype=torch.float32, device=x.device)
        shape = _shape_of(x, offset, groups)
        place = out, statistics, x, weight, bias, weight if offset is None else offset
        if x.numel():
            with on_device_of(x):
                _forward_kernel[shape.pop("grid")](*place, eps=eps, RELU=relu, **shape)
        ctx.save_for_backward(x, weight, bias, offset, statistics)
        ctx.groups, ctx.eps, ctx.relu = groups, eps, relu
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, bias, offset, statistics = ctx.saved_tensors
        nothing = (None,) * 7
        if torch.is_grad_enabled():  # somebody differentiates this again: as torch does it
            shift = 0 if offset is None else offset.view(-1, *(offset.shape[1:] or (1, 1)))
            end = F.group_norm(x.float() + shift, ctx.groups, weight, bias, ctx.eps)
            end = F.relu(end) if ctx.relu else end
            return torch.autograd.grad(end, x, g.float(), create_graph=True)[0], *nothing
        out = torch.empty_like(x)
        shape = _shape_of(x, offset, ctx.groups)
        g = g.contiguous(memory_format=torch.channels_last if _innermost(x) else torch.contiguous_format)
        place = out, g, statistics, x, weight, bias, weight if offset is None else offset
        if x.numel():
            with on_device_of(x):
                _backward_kernel[shape.pop("grid")](*place, RELU=ctx.relu, **shape)
        return out, *nothing


def _innermost(x: Tensor) -> bool:
    """Whether channels are innermost in memory, and not outermost as well."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _shape_of(x: Tensor, offset: Tensor | None, groups: int) -> dict[str, Any]:
    """Arguments of a launch that follow from shapes."""
    rows, channels = x.shape[:2]
    pixels = x[0, 0].numel() if len(x) else 1
    entries = channels // groups * pixels
    block = triton.next_power_of_2(entries)
    together = max(1, _ENTRIES // block)
    return {
        "grid": (triton.cdiv(rows * groups, together),),
        "all_groups": rows * groups,
        "groups": groups,
        "entries": entries,
        "pixels": pixels,
        "OFFSET": 0 if offset is None else offset.ndim,
        "DEPTH": channels // groups if _innermost(x) else 0,
        "TOGETHER": together,
        "BLOCK": block,
        "num_warps": 8 if block * together > 4096 else 4,
    }


@triton.jit
def _loaded(
    x, offset, all_groups, groups, entries, pixels,
    OFFSET: tl.constexpr, DEPTH: tl.constexpr, TOGETHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """States of some groups in float32, (TOGETHER, BLOCK), with where they are, their channels and a mask.

    DEPTH is the number of channels of a group if they are innermost in memory, else 0.
    """
    which = tl.program_id(0) * TOGETHER + tl.arange(0, TOGETHER)
    entry = tl.arange(0, BLOCK)[None, :]
    mask = (which < all_groups)[:, None] & (entry < entries)
    first = (which % groups)[:, None] * entries
    if DEPTH == 0:
        place = which.to(tl.int64)[:, None] * entries + entry
        channel = (first + entry) // pixels
        usual = first + entry
    else:
        channel = (which % groups)[:, None] * DEPTH + entry % DEPTH
        row = (which // groups).to(tl.int64)[:, None] * (groups * entries)
        place = row + (entry // DEPTH) * (groups * DEPTH) + channel
        usual = channel * pixels + entry // DEPTH
    value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    if OFFSET == 1:
        value += tl.load(offset + channel, mask=mask, other=0.0).to(tl.float32)
    elif OFFSET == 3:
        value += tl.load(offset + usual, mask=mask, other=0.0).to(tl.float32)
    return value, which, place, channel, mask


@triton.jit
def _forward_kernel(
    out, statistics, x, weight, bias, offset, all_groups, groups, entries, pixels, eps,
    RELU: tl.constexpr, OFFSET: tl.constexpr, DEPTH: tl.constexpr,
    TOGETHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    value, which, place, channel, mask = _loaded(
        x, offset, all_groups, groups, entries, pixels, OFFSET, DEPTH, TOGETHER, BLOCK
    )
    mean = tl.sum(value, 1) / entries
    centred = tl.where(mask, value - mean[:, None], 0.0)
    rstd = 1 / tl.sqrt(tl.sum(centred * centred, 1) / entries + eps)
    tl.store(statistics + which, mean, mask=which < all_groups)
    tl.store(statistics + all_groups + which, rstd, mask=which < all_groups)
    w = tl.load(weight + channel, mask=mask, other=0.0)
    b = tl.load(bias + channel, mask=mask, other=0.0)
    end = centred * rstd[:, None] * w + b
    if RELU:
        end = tl.where(end < 0, 0.0, end)  # NaN stays NaN
    tl.store(out + place, end.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _backward_kernel(
    out, g, statistics, x, weight, bias, offset, all_groups, groups, entries, pixels,
    RELU: tl.constexpr, OFFSET: tl.constexpr, DEPTH: tl.constexpr,
    TOGETHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    value, which, place, channel, mask = _loaded(
        x, offset, all_groups, groups, entries, pixels, OFFSET, DEPTH, TOGETHER, BLOCK
    )
    mean = tl.load(statistics + which, mask=which < all_groups, other=0.0)
    rstd = tl.load(statistics + all_groups + which, mask=which < all_groups, other=0.0)
    normal = tl.where(mask, (value - mean[:, None]) * rstd[:, None], 0.0)
    w = tl.load(weight + channel, mask=mask, other=0.0)
    slope = tl.load(g + place, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        b = tl.load(bias + channel, mask=mask, other=0.0)
        slope = tl.where(normal * w + b > 0, slope, 0.0)
    slope *= w
    first = tl.sum(slope, 1) / entries
    second = tl.sum(slope * normal, 1) / entries
    end = (slope - first[:, None] - normal * second[:, None]) * rstd[:, None]
    tl.store(out + place, end.to(out.dtype.element_ty), mask=mask)
