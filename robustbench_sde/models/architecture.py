"""Define an architecture: stem, drift, limits, where chains of flows start, and how their ends join.

What an architecture says of itself needs no torch; the makers of its layers import them when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Sizes(Protocol):
    """The part of a `ModelSpec` that an architecture reads."""

    @property
    def channels(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def features(self) -> int: ...
    @property
    def stem_strides(self) -> tuple[int, ...]: ...
    @property
    def blocks(self) -> int: ...
    @property
    def norm_groups(self) -> int: ...


@dataclass(frozen=True)
class Architecture:
    """Flows one after the other between a stem and the head."""

    #: one line for help texts
    summary: str
    #: maker of the stem: images (B, C, H, W) to h(0), (B, features, H', W')
    stem: Callable[[Sizes], nn.Module]
    #: maker of f(t, h) from features and norm groups
    drift: Callable[[int, int], nn.Module]
    #: reason why sizes do not fit, as a sentence; empty if they do
    problem: Callable[[Sizes], str]

    def starts(self, h: Tensor, flows: int) -> list[tuple[Tensor, range]]:
        """Return h(0) of each chain with the flows that the chain goes through.

        Args:
            h: output of the stem, (images, C, H, W).
            flows: number of flows.
        """
        return [(h, range(flows))]

    def join(self, ends: Sequence[Tensor]) -> Tensor:
        """Return what the head reads, (draws, images, C, H, W), from the end of each chain."""
        (end,) = ends
        return end


@dataclass(frozen=True)
class Scales(Architecture):
    """Flows side by side: flow k starts from h(0) pooled by 2^k, and the enlarged ends are added."""

    def starts(self, h: Tensor, flows: int) -> list[tuple[Tensor, range]]:
        return [(pooled(h, 2**flow), range(flow, flow + 1)) for flow in range(flows)]

    def join(self, ends: Sequence[Tensor]) -> Tensor:
        import torch

        first = ends[0]
        sized = [enlarged(end.flatten(0, 1), like=first).unflatten(0, end.shape[:2]) for end in ends]
        return torch.stack(sized).sum(0)


def pooled(h: Tensor, scale: int) -> Tensor:
    """Return means over `scale` x `scale` squares of (rows, C, H, W): (rows, C, H // scale, W // scale)."""
    import torch.nn.functional as F

    return h if scale == 1 else F.avg_pool2d(h, scale)


def enlarged(h: Tensor, like: Tensor) -> Tensor:
    """Return nearest-neighbour copies in the size of `like`."""
    import torch.nn.functional as F

    return h if h.shape[-2:] == like.shape[-2:] else F.interpolate(h, size=like.shape[-2:], mode="nearest")
