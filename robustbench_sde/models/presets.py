"""Named architectures: a preset is the part of a specification that no data set decides."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: Architecture by name; a checkpoint stores the whole specification, never only the name.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # 32 channels on 8x8 states of a 32x32 image: trains on digits in a minute on 2 CPU cores.
        "digits": {"features": 32, "stem_strides": (2, 2), "norm_groups": 8, "steps": 8},
        # 64 channels on 8x8 states, 5 steps: above 70 % on CIFAR-10 in under half an hour on 2 CPU cores.
        "cifar": {"features": 64, "stem_strides": (2, 2), "norm_groups": 8, "steps": 5},
        # What a plain network does: stem and head of `digits`, and as many residual blocks h + f_i(h) as it
        # has steps, each with weights of its own (a flow of one Euler step of length 1 is a residual block).
        "resnet": {
            "features": 32,
            "stem_strides": (2, 2),
            "norm_groups": 8,
            "blocks": 8,
            "steps": 1,
        },
        # The same beside `cifar`.
        "cifar-resnet": {
            "features": 64,
            "stem_strides": (2, 2),
            "norm_groups": 8,
            "blocks": 5,
            "steps": 1,
        },
        # The networks of Liu et al. (CVPR 2020), as released: 256 channels on three scales, T = 1, 11 steps,
        # images in [0, 1] as they are.
        "liu2020": {
            "architecture": "liu2020",
            "features": 256,
            "stem_strides": (1, 1, 2),
            "norm_groups": 32,
            "blocks": 3,
            "steps": 11,
        },
        # The ODE-Nets of torchdiffeq's MNIST example, T = 1, images in [0, 1] as they are.
        "odenet": {
            "architecture": "odenet",
            "features": 64,
            "stem_strides": (1, 2, 2),
            "norm_groups": 32,
            "steps": 8,
        },
        "odenet-residual": {
            "architecture": "odenet-residual",
            "features": 64,
            "stem_strides": (1, 2, 2),
            "norm_groups": 32,
            "steps": 8,
        },
    }
)
