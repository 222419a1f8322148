"""List the architectures by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from robustbench_sde.models.architecture import Architecture, Sizes
from robustbench_sde.models.published.architectures import LIU2020, ODENET, ODENET_RESIDUAL

if TYPE_CHECKING:
    from torch import nn


def _stem(sizes: Sizes) -> nn.Module:
    from robustbench_sde.models.layers import Stem

    return Stem(sizes.channels, sizes.features, sizes.stem_strides, sizes.norm_groups)


def _conv_drift(features: int, groups: int) -> nn.Module:
    from robustbench_sde.models.layers import ConvDrift

    return ConvDrift(features, groups)


#: Networks of this project.
PLAIN = Architecture("flows one after the other", stem=_stem, drift=_conv_drift, problem=lambda sizes: "")

#: Architectures by the name that specifications store.
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {"plain": PLAIN, "liu2020": LIU2020, "odenet": ODENET, "odenet-residual": ODENET_RESIDUAL}
)
