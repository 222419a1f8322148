"""Rounding of [0, 1] to whole 8-bit values by truncation, as the published code casts."""

from torch import Tensor

#: A float32 that should be a whole number may lie this much below it.
FORGIVEN = 2**-13


def truncate(x: Tensor) -> Tensor:
    """255 x without its fraction, still floating-point; `x` in [0, 1]."""
    return x.mul(255).add_(FORGIVEN).floor_()
