"""A step of Euler-Maruyama with its noise in one kernel: h + f dt + s G z with G = 1, h or f.

The normals z are generated where they are added and never stored; the gradient generates them again. Only
three states are read from memory or written to it.

States may also lie with their channels innermost (NHWC), as convolutions with few bits prefer them. An entry
has the same random number in either layout: numbers are counted in the order (channel, row, column).
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from robustbench_sde.sde.kernels import channels_innermost, empty_states, lay_out, on_device_of
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
        h, drift: (draws or 1, images, ...) float32, the state and f(h, t). The result lies in memory as `h`.
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
        ctx.innermost = channels_innermost(h)
        h, drift = (lay_out(states, innermost=ctx.innermost) for states in (h, drift))
        out = empty_states(z.shape, h, innermost=ctx.innermost)
        grid, options = _launch(z, len(z.rows.counters), kind, ctx.innermost)
        states = h.shape[0] * h.shape[1]
        with on_device_of(out):
            _forward_kernel[grid](out, h, drift, *_place(z), states, dt, scale, **options)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        if ctx.kind == ADDITIVE.value or torch.is_grad_enabled():  # the latter: this is differentiated again
            return *_slopes(ctx, g), None, None, None, None
        z, g = ctx.numbers, lay_out(g, innermost=ctx.innermost)
        draws = z.shape[0] // ctx.draws
        shape = ctx.draws, *z.shape[1:]
        to_h, to_drift = (empty_states(shape, g, innermost=ctx.innermost) for _ in range(2))
        rows = len(z.rows.counters) // draws
        grid, options = _launch(z, rows, ctx.kind, ctx.innermost)
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


def _launch(z: KeyedNumbers, rows: int, kind: int, innermost: bool) -> tuple[tuple[int], dict[str, int]]:
    """Return the grid and the constants of a kernel over `rows` rows."""
    lanes = z.size // (2 * WORDS_PER_BLOCK)
    width = min(_LANES, triton.next_power_of_2(lanes))
    grid = (triton.cdiv(lanes, width) * rows,)
    channels, pixels = (z.shape[2], z.size // z.shape[2]) if innermost else (0, 0)
    constants = {"KIND": kind, "CHANNELS": channels, "PIXELS": pixels, "LANES": width}
    return grid, {**constants, "num_warps": warps(width)}


@triton.jit
def _blocks(j, CHANNELS: tl.constexpr, PIXELS: tl.constexpr):
    """Find the block of words of each lane `j`, (n,) int64.

    CHANNELS and PIXELS are 0 if channels are outermost in memory, and their numbers if they are innermost.
    Then lanes that follow each other have channels that do, so that a warp reads neighbouring addresses.
    """
    if CHANNELS == 0:
        b = j
    elif CHANNELS % 2 == 0 and PIXELS % 8 == 0:
        b = (j % (CHANNELS // 2)) * (PIXELS // 8) + j // (CHANNELS // 2)
    else:
        b = j
    return b


@triton.jit
def _places(b, half, CHANNELS: tl.constexpr, PIXELS: tl.constexpr):
    """Find where the numbers of blocks `b`, and those of their partners, go in a row: (n, 8) each."""
    first = 8 * b[:, None] + tl.arange(0, 8)[None, :]
    second = first + half
    if CHANNELS > 0:
        first = (first % PIXELS) * CHANNELS + first // PIXELS
        second = (second % PIXELS) * CHANNELS + second // PIXELS
    return first, second


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
    KIND: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Update `LANES` pairs of blocks of one row; row r uses the state in row r modulo `states`."""
    per_row = tl.cdiv(lanes, LANES)
    program = tl.program_id(0)
    row = program // per_row
    j = ((program % per_row) * LANES + tl.arange(0, LANES)).to(tl.int64)
    b = _blocks(j, CHANNELS, PIXELS)
    x, y = even_numbers(key, counters, row, first_block, site, lanes, b, NORMALS)
    size = lanes * 16
    first, second = _places(b, lanes * 8, CHANNELS, PIXELS)
    mask = 8 * j[:, None] + tl.arange(0, 8)[None, :] < lanes * 8
    state, to = (row % states).to(tl.int64) * size, row.to(tl.int64) * size
    h0, h1 = tl.load(h + (state + first), mask=mask), tl.load(h + (state + second), mask=mask)
    f0, f1 = tl.load(f + (state + first), mask=mask), tl.load(f + (state + second), mask=mask)
    tl.store(out + (to + first), _updated(h0, f0, x, dt, scale, KIND), mask=mask)
    tl.store(out + (to + second), _updated(h1, f1, y, dt, scale, KIND), mask=mask)


@triton.jit(do_not_specialize=["first_block", "site"])
def _backward_kernel(
    to_h, to_f, g, key, counters, first_block, site, lanes, states, draws, dt, scale,
    KIND: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Compute the gradient at a row of h and of f, summed over the `draws` that share this row."""
    per_row = tl.cdiv(lanes, LANES)
    program = tl.program_id(0)
    state = program // per_row
    j = ((program % per_row) * LANES + tl.arange(0, LANES)).to(tl.int64)
    b = _blocks(j, CHANNELS, PIXELS)
    size = lanes * 16
    first, second = _places(b, lanes * 8, CHANNELS, PIXELS)
    mask = (j < lanes)[:, None]
    plain0, plain1 = tl.zeros((LANES, 8), tl.float32), tl.zeros((LANES, 8), tl.float32)
    noisy0, noisy1 = tl.zeros((LANES, 8), tl.float32), tl.zeros((LANES, 8), tl.float32)
    for draw in range(draws):
        row = draw * states + state
        x, y = even_numbers(key, counters, row, first_block, site, lanes, b, NORMALS)
        place = g + row.to(tl.int64) * size
        g0, g1 = tl.load(place + first, mask=mask), tl.load(place + second, mask=mask)
        plain0 += g0
        plain1 += g1
        noisy0 += g0 * x
        noisy1 += g1 * y
    to_h += state.to(tl.int64) * size
    to_f += state.to(tl.int64) * size
    if KIND == MULTIPLICATIVE:
        tl.store(to_h + first, plain0 + scale * noisy0, mask=mask)
        tl.store(to_h + second, plain1 + scale * noisy1, mask=mask)
        tl.store(to_f + first, plain0 * dt, mask=mask)
        tl.store(to_f + second, plain1 * dt, mask=mask)
    else:
        tl.store(to_h + first, plain0, mask=mask)
        tl.store(to_h + second, plain1, mask=mask)
        tl.store(to_f + first, plain0 * dt + scale * noisy0, mask=mask)
        tl.store(to_f + second, plain1 * dt + scale * noisy1, mask=mask)
