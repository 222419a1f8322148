"""A step of Euler-Maruyama with its noise in one kernel: h + f dt + s G z with G = 1, h or f.

The normals z are generated where they are added and never stored; the gradient generates them again. Only
three states are read from memory or written to it.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from robustbench_sde.sde.kernels import on_device_of
from robustbench_sde.sde.kernels.numbers import NORMALS, even_numbers, warps
from robustbench_sde.sde.keyed import KeyedNumbers
from robustbench_sde.sde.philox import WORDS_PER_BLOCK, to_normals

ADDITIVE: tl.constexpr = tl.constexpr(0)
MULTIPLICATIVE: tl.constexpr = tl.constexpr(1)
DROPOUT: tl.constexpr = tl.constexpr(2)

_LANES = 128


def fits(h: Tensor, drift: Tensor, z: KeyedNumbers) -> bool:
    """Whether the kernels take this step: whole blocks in both halves, and one number for each entry."""
    whole = z.size > 0 and z.size % (2 * WORDS_PER_BLOCK) == 0 and z.law is to_normals
    return (
        whole
        and h.shape[2:] == z.shape[2:]
        and h.shape == drift.shape
        and h.dtype == drift.dtype == torch.float32
    )


def advance(h: Tensor, drift: Tensor, z: KeyedNumbers, kind: int, dt: float, scale: float) -> Tensor:
    """Return the state after a step: (draws, images, ...), differentiable; the second derivative stores z.

    Args:
        h, drift: (draws or 1, images, ...) float32, the state and f(h, t).
        z: numbers of the noise, for which `fits` must hold.
        kind: ADDITIVE, MULTIPLICATIVE or DROPOUT, as a number.
        dt: length of the step in time.
        scale: sigma(t) sqrt(dt).
    """
    out: Tensor = _Advance.apply(h, drift, z, kind, dt, scale)
    return out


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, drift: Tensor, z: KeyedNumbers, kind: int, dt: float, scale: float
    ) -> Tensor:
        ctx.numbers, ctx.kind, ctx.dt, ctx.scale, ctx.draws = z, kind, dt, scale, len(h)
        h, drift = h.contiguous(), drift.contiguous()
        out = torch.empty(z.shape, dtype=h.dtype, device=h.device)
        grid, options = _launch(z, len(z.rows.counters), kind)
        states = h.shape[0] * h.shape[1]
        with on_device_of(out):
            _forward_kernel[grid](out, h, drift, *_place(z), states, dt, scale, **options)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        if ctx.kind == ADDITIVE.value or torch.is_grad_enabled():  # the latter: this is differentiated again
            return *_slopes(ctx, g), None, None, None, None
        z, g = ctx.numbers, g.contiguous()
        draws = z.shape[0] // ctx.draws
        to_h = torch.empty((ctx.draws, *z.shape[1:]), dtype=g.dtype, device=g.device)
        to_drift = torch.empty_like(to_h)
        rows = len(z.rows.counters) // draws
        grid, options = _launch(z, rows, ctx.kind)
        with on_device_of(g):
            _backward_kernel[grid](to_h, to_drift, g, *_place(z), rows, draws, ctx.dt, ctx.scale, **options)
        return to_h, to_drift, None, None, None, None


def _slopes(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients at h and f with torch operations, which can be differentiated again."""
    along = g if ctx.kind == ADDITIVE.value else g * (ctx.scale * ctx.numbers.make())
    to_h = g + along if ctx.kind == MULTIPLICATIVE.value else g
    to_drift = g * ctx.dt + along if ctx.kind == DROPOUT.value else g * ctx.dt
    if ctx.draws < len(g):
        return to_h.sum(0, keepdim=True), to_drift.sum(0, keepdim=True)
    return to_h, to_drift


def _place(z: KeyedNumbers) -> tuple[Any, ...]:
    """Return the arguments of the kernels that describe the noise."""
    return z.rows.key, z.rows.counters, z.first_block, z.site, z.size // (2 * WORDS_PER_BLOCK)


def _launch(z: KeyedNumbers, rows: int, kind: int) -> tuple[tuple[int], dict[str, int]]:
    """Return the grid and the constants of a kernel over `rows` rows."""
    lanes = z.size // (2 * WORDS_PER_BLOCK)
    width = min(_LANES, triton.next_power_of_2(lanes))
    grid = (triton.cdiv(lanes, width) * rows,)
    return grid, {"KIND": kind, "LANES": width, "num_warps": warps(width)}


@triton.jit
def _updated(h, f, z, dt, scale, KIND: tl.constexpr):
    new = h + f * dt
    if KIND == ADDITIVE:
        new += scale * z
    elif KIND == MULTIPLICATIVE:
        new += scale * (h * z)
    else:
        new += scale * (f * z)
    return new


@triton.jit(do_not_specialize=["first_block", "site"])
def _forward_kernel(
    out, h, f, key, counters, first_block, site, lanes, states, dt, scale,
    KIND: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Update `LANES` pairs of blocks of one row; row r uses the state in row r modulo `states`."""
    per_row = tl.cdiv(lanes, LANES)
    program = tl.program_id(0)
    row = program // per_row
    b = ((program % per_row) * LANES + tl.arange(0, LANES)).to(tl.int64)
    x, y = even_numbers(key, counters, row, first_block, site, lanes, b, NORMALS)
    size, half = lanes * 16, lanes * 8
    index = 8 * b[:, None] + tl.arange(0, 8)[None, :]
    mask = index < half
    place = (row % states).to(tl.int64) * size + index
    h0, h1 = tl.load(h + place, mask=mask), tl.load(h + place + half, mask=mask)
    f0, f1 = tl.load(f + place, mask=mask), tl.load(f + place + half, mask=mask)
    to = out + row.to(tl.int64) * size + index
    tl.store(to, _updated(h0, f0, x, dt, scale, KIND), mask=mask)
    tl.store(to + half, _updated(h1, f1, y, dt, scale, KIND), mask=mask)


@triton.jit(do_not_specialize=["first_block", "site"])
def _backward_kernel(
    to_h, to_f, g, key, counters, first_block, site, lanes, states, draws, dt, scale,
    KIND: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Compute the gradient at a row of h and of f, summed over the `draws` that share this row."""
    per_row = tl.cdiv(lanes, LANES)
    program = tl.program_id(0)
    state = program // per_row
    b = ((program % per_row) * LANES + tl.arange(0, LANES)).to(tl.int64)
    size, half = lanes * 16, lanes * 8
    index = 8 * b[:, None] + tl.arange(0, 8)[None, :]
    mask = index < half
    plain0, plain1 = tl.zeros((LANES, 8), tl.float32), tl.zeros((LANES, 8), tl.float32)
    noisy0, noisy1 = tl.zeros((LANES, 8), tl.float32), tl.zeros((LANES, 8), tl.float32)
    for draw in range(draws):
        row = draw * states + state
        x, y = even_numbers(key, counters, row, first_block, site, lanes, b, NORMALS)
        place = row.to(tl.int64) * size + index
        g0, g1 = tl.load(g + place, mask=mask), tl.load(g + place + half, mask=mask)
        plain0 += g0
        plain1 += g1
        noisy0 += g0 * x
        noisy1 += g1 * y
    place = state.to(tl.int64) * size + index
    if KIND == MULTIPLICATIVE:
        tl.store(to_h + place, plain0 + scale * noisy0, mask=mask)
        tl.store(to_h + place + half, plain1 + scale * noisy1, mask=mask)
        tl.store(to_f + place, plain0 * dt, mask=mask)
        tl.store(to_f + place + half, plain1 * dt, mask=mask)
    else:
        tl.store(to_h + place, plain0, mask=mask)
        tl.store(to_h + place + half, plain1, mask=mask)
        tl.store(to_f + place, plain0 * dt + scale * noisy0, mask=mask)
        tl.store(to_f + place + half, plain1 * dt + scale * noisy1, mask=mask)
