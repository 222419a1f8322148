"""Describe the networks of other papers; their layers are imported when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_sde.models.architecture import Architecture, Scales, Sizes

if TYPE_CHECKING:
    from torch import nn


def stem_widths(features: int) -> tuple[int, int]:
    """Return the channels after the first and the second convolution of the stem of liu2020."""
    return features // 4, features // 2


def _heavy_stem(sizes: Sizes) -> nn.Module:
    from robustbench_sde.models.published.liu2020 import HeavyStem

    return HeavyStem(sizes.channels, sizes.features, sizes.norm_groups)


def _sinusoidal_drift(features: int, groups: int) -> nn.Module:
    from robustbench_sde.models.published.liu2020 import SinusoidalDrift

    return SinusoidalDrift(features, groups)


def _liu2020_problem(sizes: Sizes) -> str:
    if sizes.stem_strides != (1, 1, 2):
        return "the stem of architecture liu2020 has stem_strides (1, 1, 2)"
    if any(width < 1 or width % min(width, sizes.norm_groups) for width in stem_widths(sizes.features)):
        return (
            f"a quarter and half of the features, {sizes.features}, must be multiples of norm_groups, "
            f"{sizes.norm_groups}, or smaller"
        )
    smallest = 2**sizes.blocks
    if min(sizes.height, sizes.width) < smallest:
        return f"{sizes.blocks} scales need images of at least {smallest}x{smallest}"
    return ""


#: The networks that Liu et al. released.
LIU2020 = Scales(
    "the released networks of Liu et al.: flows side by side on scales",
    stem=_heavy_stem,
    drift=_sinusoidal_drift,
    problem=_liu2020_problem,
)


def _conv_stem(sizes: Sizes) -> nn.Module:
    from robustbench_sde.models.published.odenet import ConvStem

    return ConvStem(sizes.channels, sizes.features, sizes.norm_groups)


def _residual_stem(sizes: Sizes) -> nn.Module:
    from robustbench_sde.models.published.odenet import ResidualStem

    return ResidualStem(sizes.channels, sizes.features, sizes.norm_groups)


def _concat_drift(features: int, groups: int) -> nn.Module:
    from robustbench_sde.models.published.odenet import ConcatDrift

    return ConcatDrift(features, groups)


def _odenet_problem(sizes: Sizes) -> str:
    if sizes.stem_strides != (1, 2, 2) or sizes.blocks != 1:
        return "an odenet has stem_strides (1, 2, 2) and one block"
    if min(sizes.height, sizes.width) < 8:
        return "an odenet needs images of at least 8x8"
    return ""


#: The example of torchdiffeq with convolutional downsampling.
ODENET = Architecture(
    "torchdiffeq's MNIST example, convolutional downsampling",
    stem=_conv_stem,
    drift=_concat_drift,
    problem=_odenet_problem,
)
#: The example of torchdiffeq with residual downsampling.
ODENET_RESIDUAL = Architecture(
    "torchdiffeq's MNIST example, residual downsampling",
    stem=_residual_stem,
    drift=_concat_drift,
    problem=_odenet_problem,
)
