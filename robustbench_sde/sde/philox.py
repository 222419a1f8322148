"""The counter-based generator under every random number of the project: Philox4x64-10.

Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). A block is a pure
function of a 128-bit key and a 256-bit counter, so any part of any stream can be computed alone, in any
order, on any machine. numpy computes it here, torch in `philox_device`; `tests/sde/test_philox.py` holds both
to another implementation written from the paper and to its published known answers.

The written definition (`NOISE_VERSION` 2)
------------------------------------------
key
    16 bytes BLAKE2b of ``"sde-bench/1:{seed}:{stream}:{purpose}"``, read as two little-endian 64-bit words.
counter
    ``(block, site, draw, image)``, 64 bits each.  Block ``b`` of a sequence is the output of Philox at
    counter ``b + 1`` (numpy increments before it generates).  In a solve ``site = 65536 * term + flow``, and
    step ``i`` has the blocks ``[i n, (i + 1) n)``, where ``n`` blocks hold the numbers of a step: one for
    each entry of the state, one for each channel, or one alone, by the shape of the noise.  The noise that
    randomised smoothing adds to an image has ``site = 2**48`` and one step, a number for each value.
words
    each block is four 64-bit words, each read as two 32-bit words, the low one first: eight words a block.
uniform
    ``(w >> 8) * 2**-24``, in [0, 1).
normal
    Box-Muller on ``m`` words (m even): radius ``sqrt(-2 ln((w_j mod 2**31 + 1/2) * 2**-31))`` from the first
    half, angle ``w_{m/2+j} * pi * 2**-31`` (as a signed integer) from the second; the first half of the
    output is the cosine branch, the second the sine branch.
pairs
    On the streams `attack`, `select` and `score`, draw 2j + 1 of a path is draw 2j mirrored: it has the
    numbers of draw 2j, each replaced by its mirror image. That of a normal or stable number is its negative,
    and that of a uniform u is ``1 - 2**-24 - u``, which is u of the word with all bits flipped. On `train`,
    `audit` and `certify` every draw has its own counter. Numbers that belong to no path (starts, crops,
    directions) have no pairs.

Definition 1 had no pairs, and read the sign of a jump elsewhere (`diffusion.Jump`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Key = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint32]

#: turns words, as int32, into numbers of one distribution: (..., 8 n) to (..., 8 n) float32
Law: TypeAlias = Callable[["Tensor"], "Tensor"]

WORDS_PER_BLOCK = 8

#: version of the written definition; raised when a draw gets other numbers, so that stored cells of random
#: models are not taken for new ones
NOISE_VERSION = 2
#: largest uniform: uniforms are multiples of 2**-24 below 1
LARGEST_UNIFORM = 1 - 2.0**-24


def key(seed: int, stream: str, purpose: str) -> Key:
    """Return the 128-bit key of a stream; any integer is a seed, and no two names share a key."""
    digest = hashlib.blake2b(f"sde-bench/1:{seed}:{stream}:{purpose}".encode(), digest_size=16)
    return np.frombuffer(digest.digest(), dtype="<u8").astype(np.uint64)


def words(
    key: Key,
    rows: Iterable[tuple[int, int]],
    blocks: int,
    *,
    first_block: int = 0,
    site: int = 0,
) -> Words:
    """Generate raw words, one row per (draw, image): shape (rows, 8 * blocks), uint32."""
    counters = list(rows)
    out = np.empty((len(counters), blocks * WORDS_PER_BLOCK // 2), dtype="<u8")
    # one generator that is set anew for each row: a new one asks the system for entropy that nothing uses
    generator = np.random.Philox(key=key, counter=np.array((first_block, site, 0, 0), dtype=np.uint64))
    state = generator.state
    counter = state["state"]["counter"]
    for row, (draw, image) in zip(out, counters, strict=True):
        counter[2], counter[3] = draw, image
        generator.state = state
        row[:] = generator.random_raw(row.size)
    return out.view("<u4")


def signed(raw: Words) -> Tensor:
    """View the bits as int32, which torch computes with."""
    import torch

    return torch.from_numpy(raw.view(np.int32))


def to_uniforms(raw: Tensor) -> Tensor:
    """Convert words into floats in [0, 1) with 24 random bits: float32, same shape."""
    return raw.bitwise_right_shift(8).bitwise_and_(0xFFFFFF) * 2.0**-24


def mirrored(law: Law, numbers: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the mirror image of numbers of a law, which has the same law; exact in float32.

    Uniforms in [0, 1) are mirrored about their middle; the numbers of all other laws are symmetric about 0.

    Args:
        law: function that made the numbers.
        numbers: float32, any shape.
        out: memory for the result, of the same shape.
    """
    import torch

    opposite = torch.neg(numbers, out=out)
    return opposite.add_(LARGEST_UNIFORM) if law is to_uniforms else opposite


def to_normals(raw: Tensor) -> Tensor:
    """Convert words into standard normals by Box-Muller over the last axis: float32, |z| at most 6.67."""
    import torch

    radius_words, angle_words = raw.unflatten(-1, (2, -1)).unbind(-2)
    radius = radius_words.bitwise_and(0x7FFFFFFF).float()
    radius.add_(0.5).mul_(2.0**-31).log_().mul_(-2.0).sqrt_()
    angle = angle_words.float().mul_(math.pi * 2.0**-31)
    normals: Tensor = radius.new_empty(raw.shape)
    cosine, sine = normals.unflatten(-1, (2, -1)).unbind(-2)
    torch.cos(angle, out=cosine).mul_(radius)
    torch.sin(angle, out=sine).mul_(radius)
    return normals
