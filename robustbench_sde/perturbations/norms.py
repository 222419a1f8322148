"""Norm balls: sizes, projections, steepest steps and random points, all per image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from robustbench_sde.errors import unknown_name
from robustbench_sde.sde.draws import KeyedRandom


def per_image(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1), to be multiplied with images."""
    return values.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Norm(ABC):
    """A norm on perturbations (B, C, H, W)."""

    name: str

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """The norm of each perturbation: (B,)."""

    @abstractmethod
    def project(self, delta: Tensor, eps: float) -> Tensor:
        """The nearest perturbation of size at most `eps`."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of size 1 along which a function with this gradient rises fastest; 0 where it is 0."""

    @abstractmethod
    def gain(self, gradient: Tensor, clean: Tensor, x: Tensor, eps: float) -> Tensor:
        """The largest <gradient, x' - x> over images x' within `eps` of `clean`, or a bit more: (B,)."""

    @abstractmethod
    def random(self, keyed: KeyedRandom, image_ids: Tensor, like: Tensor, *, draw: int) -> Tensor:
        """A uniformly random point of the unit ball for each image."""


class Linf(Norm):
    """The largest absolute change of any value."""

    def size(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1)

    def project(self, delta: Tensor, eps: float) -> Tensor:
        return delta.clamp(-eps, eps)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def gain(self, gradient: Tensor, clean: Tensor, x: Tensor, eps: float) -> Tensor:
        corner = (clean + eps * gradient.sign()).clamp(0, 1)
        return (gradient * (corner - x)).flatten(1).sum(1)

    def random(self, keyed: KeyedRandom, image_ids: Tensor, like: Tensor, *, draw: int) -> Tensor:
        return keyed.uniforms(image_ids, like.shape[1:], draw=draw).to(like) * 2 - 1


class L2(Norm):
    """The Euclidean length of the change."""

    def size(self, delta: Tensor) -> Tensor:
        # sums pairwise: vector_norm adds up entries one by one and loses a millionth on large images
        return delta.flatten(1).square().sum(1).sqrt()

    def project(self, delta: Tensor, eps: float) -> Tensor:
        return delta * per_image((eps / self.size(delta).clamp_min(1e-30)).clamp_max(1.0))

    def steepest(self, gradient: Tensor) -> Tensor:
        # scaled by the largest entry first: squares of tiny gradients would vanish
        scaled = gradient / per_image(Linf("linf").size(gradient).clamp_min(1e-38))
        return scaled / per_image(self.size(scaled).clamp_min(1e-12))

    def gain(self, gradient: Tensor, clean: Tensor, x: Tensor, eps: float) -> Tensor:
        # without the walls of [0, 1], which only take from it
        return eps * self.size(gradient) - (gradient * (x - clean)).flatten(1).sum(1)

    def random(self, keyed: KeyedRandom, image_ids: Tensor, like: Tensor, *, draw: int) -> Tensor:
        direction = self.steepest(keyed.normals(image_ids, like.shape[1:], draw=2 * draw).to(like))
        volume = keyed.uniforms(image_ids, (1,), draw=2 * draw + 1)[:, 0].to(like)
        return direction * per_image(volume ** (1 / like[0].numel()))


NORMS: dict[str, Norm] = {"linf": Linf("linf"), "l2": L2("l2")}


@dataclass(frozen=True)
class Ball:
    """All images within `eps` of a clean one, and within [0, 1]."""

    norm: Norm
    #: radius, in units of images in [0, 1]
    eps: float

    def project(self, images: Tensor, candidate: Tensor) -> Tensor:
        """`candidate` moved into the ball around `images`."""
        return (images + self.norm.project(candidate - images, self.eps)).clamp(0, 1)

    def gain(self, images: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
        """The most that a linear function of this gradient can still rise by from `x` in the ball: (B,)."""
        return self.norm.gain(gradient, images, x, self.eps)

    def random(self, keyed: KeyedRandom, image_ids: Tensor, images: Tensor, *, draw: int) -> Tensor:
        """A uniformly random point of the ball around each image, clipped to [0, 1]."""
        return self.project(images, images + self.eps * self.norm.random(keyed, image_ids, images, draw=draw))

    def __str__(self) -> str:
        return f"{self.norm.name} {self.eps:g}"


def get_norm(name: str) -> Norm:
    """The norm called `linf` or `l2`.

    Raises:
        BenchError: there is no such norm.
    """
    if name not in NORMS:
        raise unknown_name("norm", name, NORMS)
    return NORMS[name]
