"""Philox4x64-10 in torch integer operations: the words of `sde.philox`, made on any device.

Torch has no unsigned 64-bit arithmetic: int64 has the same bits, its products wrap, and a shift to the right
needs a mask. A product of 128 bits is put together from four of 32-bit halves.
"""

import torch
from torch import Tensor

_LOW = 2**32 - 1
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


def words(
    key: Tensor, draws: Tensor, images: Tensor, blocks: int, *, first_block: int = 0, site: int = 0
) -> Tensor:
    """Make the words of `philox.words`, bit for bit: (rows, 8 * blocks), int32 with the bits of uint32.

    Args:
        key: (2,) int64, the bits of a `philox.Key`. The key is a tensor, not a number, so that a recording of
            these operations takes another key when another key is written to the same place.
        draws, images: (rows,) int64. All three are on one device, which is where the words are made.
        blocks, first_block, site: as in `philox.words`.
    """
    counter = torch.arange(first_block + 1, first_block + blocks + 1, device=draws.device).expand(
        len(draws), -1
    )
    c0, c2, c3 = counter, draws[:, None].expand_as(counter), images[:, None].expand_as(counter)
    c1 = torch.full_like(counter, site)
    k0, k1 = key[0], key[1]
    for _ in range(10):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high2, low2 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _signed(_KEY_STEPS[0]), k1 + _signed(_KEY_STEPS[1])
    return torch.stack((c0, c1, c2, c3), -1).view(torch.int32).flatten(1)


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Return the high and the low 64 bits of an unsigned product."""
    x_high, x_low = _high(x), x & _LOW
    high, low = factor >> 32, factor & _LOW
    first, second = x_high * low, x_low * high
    carry = _high(x_low * low) + (first & _LOW) + (second & _LOW)
    return x_high * high + _high(first) + _high(second) + _high(carry), x * _signed(factor)


def _high(x: Tensor) -> Tensor:
    return (x >> 32) & _LOW


def _signed(number: int) -> int:
    """Return the int64 with the low 64 bits of `number`."""
    return (number + 2**63) % 2**64 - 2**63
