"""Common corruptions, as published for CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C, on batches and keyed."""

from robustbench_sde.perturbations.corruptions.apply import corrupt
from robustbench_sde.perturbations.corruptions.perturbation import (
    Corrupted,
    Stored,
    make_corruptions,
    stored_corruptions,
)
from robustbench_sde.perturbations.corruptions.registry import CORRUPTIONS, Corruption, select

__all__ = [
    "CORRUPTIONS",
    "Corrupted",
    "Corruption",
    "Stored",
    "corrupt",
    "make_corruptions",
    "select",
    "stored_corruptions",
]
