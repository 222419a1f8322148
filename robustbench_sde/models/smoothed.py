"""Randomised smoothing: Gaussian noise on the image, before anything else, as part of a random classifier."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robustbench_sde.errors import BenchError
from robustbench_sde.models.base import ClassifierAround
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import SMOOTHING_SITE, BrownianPaths, Draws
from robustbench_sde.sde.integrate import Equation

_SMOOTHED = re.compile(r"(.+)@([0-9.e+-]+)")


class Smoothed(ClassifierAround):
    """A classifier that adds N(0, sigma^2) to each value of the image in every draw.

    The noise is keyed like all noise and has a site of its own, so that the draws of the classifier inside
    stay what they are. Images are not clipped afterwards: the theorem is about noise that is not clipped
    (Cohen, Rosenfeld & Kolter, ICML 2019). Gradients pass through, so that every attack averages over it
    (SmoothAdv of Salman et al., NeurIPS 2019).

    Args:
        model: classifier inside, random or deterministic.
        smoothing: standard deviation of the noise, in units of images in [0, 1], above 0.

    Raises:
        BenchError: `smoothing` is out of range.
    """

    #: draws differ, whatever is inside
    stochastic = True

    def __init__(self, model: RandomClassifier, smoothing: float) -> None:
        super().__init__(model)
        self.smoothing = check_smoothing(smoothing)
        #: noise of the classifier inside; `keyed` if that is deterministic
        self.noise = model.noise if model.stochastic else model.noise.replace("none", "keyed", 1)

    @property
    def network(self) -> nn.Module | None:
        """Network inside, at whose parameters other libraries look for the device."""
        return self.model.network

    @property
    def built_in(self) -> Classifier | None:
        """Network of this package behind the noise; None for any other."""
        return self.model.built_in

    def without_noise(self) -> RandomClassifier | None:
        """Return the classifier inside without any noise; None if its own cannot be switched off."""
        return self.model.without_noise() if self.model.stochastic else self.model

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Compute logits (draws, images, classes) of float images (B, C, H, W) in [0, 1].

        Our networks and any module see all draws in one pass; a random classifier of another kind sees them
        one after the other.
        """
        noisy = self.noisy(images, image_ids, draws)
        if not self.model.stochastic:
            one = replace(draws, indices=range(1))
            ids = torch.as_tensor(image_ids).repeat(len(draws))
            return self.model.logits(noisy.flatten(0, 1), ids, one).view(len(draws), len(images), -1)
        if self.model.images_by_draw:
            return self.model.logits(noisy, image_ids, draws)
        return torch.cat(
            [
                self.model.logits(own, image_ids, draw)
                for own, draw in zip(noisy, draws.chunks(1), strict=True)
            ]
        )

    def chains(
        self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws
    ) -> list[tuple[Tensor, list[Equation]]]:
        """Return the starts and equations of a pass of the classifier inside, from images with noise."""
        return self.model.chains(self.noisy(images, image_ids, draws), image_ids, draws)

    def noisy(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Return the images that the classifier inside sees: (draws, B, C, H, W), not clipped."""
        (normals,) = BrownianPaths(
            draws, image_ids, images.shape[1:], steps=1, site=SMOOTHING_SITE, device=images.device
        )
        return torch.add(images, normals.to(images.dtype), alpha=self.smoothing)


def check_smoothing(smoothing: float) -> float:
    """Return `smoothing` if it is a possible deviation of noise on images.

    Raises:
        BenchError: it is not above 0 and at most 10.
    """
    if not 0 < smoothing <= 10:
        raise BenchError(f"`smoothing` is {smoothing}; it must be above 0 and at most 10")
    return float(smoothing)


def smoothed_name(name: str, smoothing: float) -> str:
    """Name a classifier behind Gaussian noise on the image: ``m@0.25``."""
    return f"{name}@{smoothing:g}"


def smoothing_in_name(name: str) -> float | None:
    """Return the smoothing that `smoothed_name` has written into a name; None if there is none."""
    found = _SMOOTHED.fullmatch(name)
    return None if found is None else float(found[2])


def name_inside(name: str) -> str:
    """Return the name of the classifier behind the noise: ``m`` of ``m@0.25``, and any other as it is."""
    found = _SMOOTHED.fullmatch(name)
    return name if found is None else found[1]
