"""Keyed numbers in one kernel: `sde.philox` in Triton, from the counter to the float.

Philox needs the high half of 64-bit products, which a GPU has in hardware and torch lacks: `philox_device`
puts it together from hundreds of tensor operations. Here a thread computes two blocks of words and turns them
into sixteen numbers; nothing but these is written. Words are those of `sde.philox` bit for bit. Normals
differ from the host's by what two implementations of log, cos and sin differ by, at most 2e-6
(`tests/sde/kernels`).

With TRITON_INTERPRET=1 in the environment, set before the import, the kernels run on the CPU, slowly.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from robustbench_sde.sde import philox
from robustbench_sde.sde.kernels import on_device_of
from robustbench_sde.sde.philox import WORDS_PER_BLOCK, Law

#: threads' worth of block pairs in one program
_LANES = 128

WORDS: tl.constexpr = tl.constexpr(0)
UNIFORMS: tl.constexpr = tl.constexpr(1)
NORMALS: tl.constexpr = tl.constexpr(2)

_MULTIPLIER_0: tl.constexpr = tl.constexpr(0xD2E7470EE14C6C93)
_MULTIPLIER_1: tl.constexpr = tl.constexpr(0xCA5A826395121157)
_KEY_STEP_0: tl.constexpr = tl.constexpr(0x9E3779B97F4A7C15)
_KEY_STEP_1: tl.constexpr = tl.constexpr(0xBB67AE8584CAA73B)
_LARGEST: tl.constexpr = tl.constexpr(philox.LARGEST_UNIFORM)
_HALF_TURN: tl.constexpr = tl.constexpr(math.pi * 2.0**-31)

#: laws that a kernel knows; of any other law it makes the words
LAWS: dict[Law, tl.constexpr] = {philox.to_uniforms: UNIFORMS, philox.to_normals: NORMALS}


@triton.jit
def philox_block(block, site, draw, image, k0, k1):
    """Compute the four words of block `block` (>= 0); all arguments and results are uint64."""
    c0, c1, c2, c3 = block + 1, site, draw, image
    for _ in tl.static_range(10):
        high0 = tl.umulhi(c0, tl.full(c0.shape, _MULTIPLIER_0, tl.uint64))
        high2 = tl.umulhi(c2, tl.full(c2.shape, _MULTIPLIER_1, tl.uint64))
        low0 = c0 * tl.full(c0.shape, _MULTIPLIER_0, tl.uint64)
        low2 = c2 * tl.full(c2.shape, _MULTIPLIER_1, tl.uint64)
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0 += tl.full(k0.shape, _KEY_STEP_0, tl.uint64)
        k1 += tl.full(k1.shape, _KEY_STEP_1, tl.uint64)
    return c0, c1, c2, c3


@triton.jit
def _low(word):
    return (word & 0xFFFFFFFF).to(tl.uint32)


@triton.jit
def _high(word):
    return (word >> 32).to(tl.uint32)


@triton.jit
def _converted(first, second, mirrored, LAW: tl.constexpr):
    """Convert by `LAW` a word of the first half of a step and its partner in the second.

    Numbers are mirrored where `mirrored` is true, as `philox.mirrored` does; words are not.
    """
    if LAW == WORDS:
        a, b = first.to(tl.int32, bitcast=True), second.to(tl.int32, bitcast=True)
    elif LAW == UNIFORMS:
        a, b = (
            (first >> 8).to(tl.float32) * 5.9604644775390625e-08,
            (second >> 8).to(tl.float32) * 5.9604644775390625e-08,
        )
        a = tl.where(mirrored, _LARGEST - a, a)
        b = tl.where(mirrored, _LARGEST - b, b)
    else:
        uniform = ((first & 0x7FFFFFFF).to(tl.float32) + 0.5) * 4.656612873077393e-10
        radius = tl.sqrt(tl.log(uniform) * -2.0)
        angle = second.to(tl.int32, bitcast=True).to(tl.float32) * _HALF_TURN
        radius = tl.where(mirrored, -radius, radius)
        a, b = tl.cos(angle) * radius, tl.sin(angle) * radius
    return a, b


@triton.jit
def _four(w0, w1, w2, w3):
    """Stack four (n,) arrays into (n, 4), in this order."""
    return tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (w0.shape[0], 4))


@triton.jit
def _eight(w0, w1, w2, w3, w4, w5, w6, w7):
    """Stack eight (n,) arrays into (n, 8), in this order."""
    even = tl.join(tl.join(w0, w4), tl.join(w2, w6))
    odd = tl.join(tl.join(w1, w5), tl.join(w3, w7))
    return tl.reshape(tl.join(even, odd), (w0.shape[0], 8))


@triton.jit
def counter_words(key, counters, row, site, like):
    """Load key, site, draw and image of rows, uint64 in the shape of `like`, and whether they are mirrored.

    A draw below zero, -1 - d, is draw d mirrored.
    """
    zero = tl.zeros(like.shape, tl.int64)
    listed, image = tl.load(counters + 2 * row), tl.load(counters + 2 * row + 1)
    draw = listed ^ (listed >> 63)
    return (
        (zero + tl.load(key)).to(tl.uint64, bitcast=True),
        (zero + tl.load(key + 1)).to(tl.uint64, bitcast=True),
        (zero + site).to(tl.uint64, bitcast=True),
        (zero + draw).to(tl.uint64, bitcast=True),
        (zero + image).to(tl.uint64, bitcast=True),
        (zero + listed) < 0,
    )


@triton.jit
def pair_of_blocks(first, second, site, draw, image, mirrored, k0, k1, LAW: tl.constexpr):
    """Compute the numbers of two blocks of words that are partners in Box-Muller: (n, 8) each."""
    a0, a1, a2, a3 = philox_block(first, site, draw, image, k0, k1)
    b0, b1, b2, b3 = philox_block(second, site, draw, image, k0, k1)
    x0, y0 = _converted(_low(a0), _low(b0), mirrored, LAW)
    x1, y1 = _converted(_high(a0), _high(b0), mirrored, LAW)
    x2, y2 = _converted(_low(a1), _low(b1), mirrored, LAW)
    x3, y3 = _converted(_high(a1), _high(b1), mirrored, LAW)
    x4, y4 = _converted(_low(a2), _low(b2), mirrored, LAW)
    x5, y5 = _converted(_high(a2), _high(b2), mirrored, LAW)
    x6, y6 = _converted(_low(a3), _low(b3), mirrored, LAW)
    x7, y7 = _converted(_high(a3), _high(b3), mirrored, LAW)
    return _eight(x0, x1, x2, x3, x4, x5, x6, x7), _eight(y0, y1, y2, y3, y4, y5, y6, y7)


@triton.jit
def even_numbers(key, counters, row, first_block, site, lanes, b, LAW: tl.constexpr):
    """Compute the numbers of block `b` of a step of 2 `lanes` blocks, and those of its partner: (n, 8) each.

    Their places in the step are 8 b and 8 (b + lanes). `row` is one number, `b` is (n,) int64.
    """
    k0, k1, site, draw, image, mirrored = counter_words(key, counters, row, site, b)
    first = first_block + b
    second = first + lanes
    first, second = first.to(tl.uint64, bitcast=True), second.to(tl.uint64, bitcast=True)
    return pair_of_blocks(first, second, site, draw, image, mirrored, k0, k1, LAW)


@triton.jit(do_not_specialize=["first_block", "site"])
def _even_kernel(
    out, key, counters, first_block, site, rows, lanes, size, LAW: tl.constexpr, LANES: tl.constexpr
):
    """Write steps of an even number of blocks: a lane has a block of the first half and its partner."""
    per_row = tl.cdiv(lanes, LANES)
    program = tl.program_id(0)
    which = program // per_row  # of all rows of all steps
    row, step = which % rows, which // rows
    b = ((program % per_row) * LANES + tl.arange(0, LANES)).to(tl.int64)
    first = first_block + step.to(tl.int64) * (2 * lanes)
    x, y = even_numbers(key, counters, row, first, site, lanes, b, LAW)
    index = 8 * b[:, None] + tl.arange(0, 8)[None, :]
    place = out + which.to(tl.int64) * size + index
    mask = (b < lanes)[:, None]
    tl.store(place, x, mask=mask & (index < size))
    tl.store(place + 8 * lanes, y, mask=mask & (index + 8 * lanes < size))


@triton.jit(do_not_specialize=["first_block", "site"])
def _odd_kernel(
    out, key, counters, first_block, site, rows, lanes, total, size, LAW: tl.constexpr, LANES: tl.constexpr
):
    """Write steps of an odd number of blocks, whose halves meet in a block: a lane has half of each."""
    lane = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = lane < total
    u, which = lane % lanes, tl.minimum(lane, total - 1) // lanes
    row, step = which % rows, which // rows
    k0, k1, site, draw, image, mirrored = counter_words(key, counters, row, site, lane)
    start = first_block + step * lanes
    first, second = start + u // 2, start + (u + lanes) // 2
    a0, a1, a2, a3 = philox_block(first.to(tl.uint64, bitcast=True), site, draw, image, k0, k1)
    b0, b1, b2, b3 = philox_block(second.to(tl.uint64, bitcast=True), site, draw, image, k0, k1)
    upper = u % 2 == 1  # then the partner is a lower half, as the number of blocks is odd
    p0, p1 = tl.where(upper, a2, a0), tl.where(upper, a3, a1)
    q0, q1 = tl.where(upper, b0, b2), tl.where(upper, b1, b3)
    x0, y0 = _converted(_low(p0), _low(q0), mirrored, LAW)
    x1, y1 = _converted(_high(p0), _high(q0), mirrored, LAW)
    x2, y2 = _converted(_low(p1), _low(q1), mirrored, LAW)
    x3, y3 = _converted(_high(p1), _high(q1), mirrored, LAW)
    index = 4 * u[:, None] + tl.arange(0, 4)[None, :]
    place = out + (which * size)[:, None] + index
    tl.store(place, _four(x0, x1, x2, x3), mask=mask[:, None] & (index < size))
    tl.store(place + 4 * lanes, _four(y0, y1, y2, y3), mask=mask[:, None] & (index + 4 * lanes < size))


def make_numbers(
    key: Tensor,
    counters: Tensor,
    size: int,
    *,
    steps: int = 1,
    first_block: int = 0,
    site: int = 0,
    law: Law | None = philox.to_normals,
) -> Tensor:
    """Generate the numbers of consecutive steps in one launch: (steps, rows, size) float32.

    Args:
        key: (2,) int64 on the device, the bits of a `philox.Key`.
        counters: (rows, 2) int64 there: draw and image of each row; -1 - d stands for draw d mirrored, which
            changes numbers and leaves words as they are.
        size: number of random numbers of a row in a step.
        steps, first_block, site: as in the written definition of `sde.philox`; `first_block` is that of the
            first of the steps.
        law: `philox.to_normals`, `philox.to_uniforms`, or None for the words, as int32.
    """
    blocks = -(-size // WORDS_PER_BLOCK)
    rows = len(counters)
    kind = WORDS if law is None else LAWS[law]
    out = torch.empty(
        (steps, rows, size), dtype=torch.int32 if law is None else torch.float32, device=counters.device
    )
    if not out.numel():
        return out
    place = key, counters, first_block, site, rows
    with on_device_of(out):
        if blocks % 2 == 0:
            lanes = blocks // 2
            width = min(_LANES, triton.next_power_of_2(lanes))
            grid = (triton.cdiv(lanes, width) * rows * steps,)
            _even_kernel[grid](out, *place, lanes, size, LAW=kind, LANES=width, num_warps=warps(width))
        else:
            total = steps * rows * blocks
            grid = (triton.cdiv(total, _LANES),)
            _odd_kernel[grid](out, *place, blocks, total, size, LAW=kind, LANES=_LANES)
    return out


def warps(lanes: int) -> int:
    """Return the number of warps of a program with so many lanes, one lane a thread."""
    return max(1, min(4, lanes // 32))
