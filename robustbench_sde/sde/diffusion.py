"""Define the kinds of noise: each class says everything that depends on its kind.

A kind of noise is one class here and one entry of `NOISE_TERMS`: its name, its law, its own parameters with
their ranges, its orders under Euler-Maruyama, its help text, and how it stands to the stability theorem.
Specifications, solvers, the help of `train` and the stability report read these attributes. Importing them
imports no torch, so that the header of a checkpoint is checked in a fraction of a second.

Diffusions are the terms of dh = f(h, t) dt + sum of G(h, t) dB: diagonal and in the Ito sense, each with a
Brownian motion of its own. Source: Liu et al., "How Does Noise Help Robustness?", CVPR 2020, section 3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from robustbench_sde.sde import philox
from robustbench_sde.sde.keyed import KeyedNumbers, Numbers, made
from robustbench_sde.sde.philox import Law

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Parameter:
    """A number that one kind of noise needs besides its scale."""

    default: float
    #: exclusive lower limit
    above: float
    #: inclusive upper limit
    at_most: float
    #: one sentence for help texts
    summary: str
    #: True if terms of every kind store the number, as the first checkpoints do
    stored_by_all: bool = False


@dataclass(frozen=True, eq=False)
class NoiseTerm(ABC):
    """Base of all noise terms; sigma(t) = sigma (1 + (growth - 1) t / horizon)."""

    #: word for the kind in specifications, options and tables
    name: ClassVar[str]
    #: one line for help texts
    summary: ClassVar[str]
    #: numbers that this kind alone needs: fields of the class
    parameters: ClassVar[Mapping[str, Parameter]] = MappingProxyType({})
    #: (strong, weak) order of convergence under Euler-Maruyama
    euler_orders: ClassVar[tuple[float, float]]
    #: reason why the stability theorem of Liu et al. is not about this noise; empty if it is
    outside_theorem: ClassVar[str]
    #: True if the noise of two solutions on one path is equal, so that their difference does not see it
    cancels: ClassVar[bool] = False

    #: scale at t = 0, >= 0: a number, or a learned tensor of no dimension
    sigma: float | Tensor
    #: ratio sigma(T) / sigma(0), >= 0
    growth: float = 1.0
    horizon: float = 1.0

    @property
    def law(self) -> Law:
        """Return the law of the random numbers of a step: standard normals, unless a class overrides it.

        It is symmetric about 0, or `philox.to_uniforms`: `philox.mirrored` knows no other.
        """
        return philox.to_normals

    @property
    def words(self) -> int:
        """Return the number of random words that `law` uses for a number."""
        return 1

    def sigma_at(self, t: float) -> float | Tensor:
        """Return the scale at time t."""
        return self.sigma * (1 + (self.growth - 1) * t / self.horizon)

    def advance(self, h: Tensor, drift: Tensor, t: float, z: Numbers, dt: float) -> Tensor:
        """Return h + f dt and the noise of one step from t: (draws, images, ...).

        Args:
            h, drift: (draws or 1, images, ...), the state at t and f(h, t).
            z: numbers of `law`, made or not.
        """
        return self.add_noise(h.add(drift, alpha=dt), t, h, drift, made(z), dt)

    def problem(self, steps: int) -> str:
        """Return why the term cannot be solved in so many steps, as a sentence; empty if it can."""
        return ""

    @abstractmethod
    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        """Return `base` plus the noise of one step from t, in one fused operation.

        Args:
            base: where the noise goes, of the shape of `h`.
            h: (draws or 1, images, ...), the state at t.
            drift: f(h, t), which a solver has at hand.
            z: what `law` gives, (draws, images, ...), with ones where entries share a number.
        """


class Diffusion(NoiseTerm):
    """A term G(h, t) dB with dB = sqrt(dt) z; z is standard normal."""

    #: number of the update in `kernels.update`; None if no kernel computes it
    kernel: ClassVar[int | None] = None

    @abstractmethod
    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        """Return G(h, t), of the shape of `h`."""

    def advance(self, h: Tensor, drift: Tensor, t: float, z: Numbers, dt: float) -> Tensor:
        scale = self.sigma_at(t) * math.sqrt(dt)
        if self.kernel is not None and isinstance(z, KeyedNumbers) and isinstance(scale, int | float):
            from robustbench_sde.sde.kernels import update

            if update.fits(h, drift, z):
                return update.advance(h, drift, z, self.kernel, dt, scale)
        return super().advance(h, drift, t, z, dt)

    def _scaled(self, t: float, z: Tensor, dt: float) -> tuple[Tensor, float]:
        """Return (z, a) such that a z = sigma(t) dB, with a number for `a`: what fused operations take."""
        scale = self.sigma_at(t) * math.sqrt(dt)
        return (z, scale) if isinstance(scale, int | float) else (scale * z, 1.0)


class Additive(Diffusion):
    """Noise with G = sigma: it cancels in the difference of two solutions, so that it cannot contract."""

    name = "additive"
    kernel = 0
    summary = "G = sigma"
    euler_orders = (1.0, 1.0)
    outside_theorem = "additive noise is the same for two solutions and cancels in their difference"
    cancels = True

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return h.new_ones(h.shape) * self.sigma_at(t)

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        z, scale = self._scaled(t, z, dt)
        return base.add(z, alpha=scale)


class Multiplicative(Diffusion):
    """Noise with G = sigma h, which the stability theorem is about (shape `scalar`)."""

    name = "multiplicative"
    kernel = 1
    summary = "G = sigma h"
    euler_orders = (0.5, 1.0)
    outside_theorem = ""

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return self.sigma_at(t) * h

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        z, scale = self._scaled(t, z, dt)
        return base.addcmul(h, z, value=scale)


class Dropout(Diffusion):
    """Noise with G = sigma f(h, t): the limit of residual dropout that keeps a share p.

    The scale is then sigma = sqrt((1-p)/p).
    """

    name = "dropout"
    kernel = 2
    summary = "G = sigma f(h, t), the limit of residual dropout"
    euler_orders = (0.5, 1.0)
    outside_theorem = "the theorem is about noise proportional to h, and dropout's is proportional to f(h)"

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return self.sigma_at(t) * drift

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        z, scale = self._scaled(t, z, dt)
        return base.addcmul(drift, z, value=scale)


@dataclass(frozen=True, eq=False)
class Jump(NoiseTerm):
    """Dropout as a jump process: with probability rate dt, a step adds +sigma h or -sigma h, by a fair coin.

    It is what the released code of Liu et al. calls dropout. There is at most one jump a step, so rate dt
    must be at most 1. The mean is 0 and the variance that of multiplicative noise with the scale sigma
    sqrt(rate). Orders of convergence are meant in the sense of the process that jumps at grid points.
    """

    name = "jump"
    summary = "h jumps by +sigma h or -sigma h at random times: the dropout of the released code"
    parameters = MappingProxyType(
        {
            "rate": Parameter(
                1.0, above=0.0, at_most=1e4, summary="expected jumps per unit of time", stored_by_all=True
            )
        }
    )
    euler_orders = (0.5, 1.0)
    outside_theorem = "the theorem is about Brownian motion, and jumps are none"

    #: expected jumps per unit of time
    rate: float = 1.0

    @property
    def law(self) -> Law:
        """Return the law of uniforms u in [0, 1): a jump up if u < p / 2, down if its mirror image is."""
        return philox.to_uniforms

    def problem(self, steps: int) -> str:
        if self.rate * self.horizon <= steps:
            return ""
        return (
            f"jumps of rate {self.rate:g} need at least {math.ceil(self.rate * self.horizon)} steps, "
            f"not {steps}: a step has one jump at most"
        )

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        probability = self.rate * dt
        mirror = philox.mirrored(self.law, z)  # a mirrored draw jumps when this one does, the other way
        jumps = (z < probability / 2).to(h.dtype) - (mirror < probability / 2).to(h.dtype)
        return base + self.sigma_at(t) * h * jumps


@dataclass(frozen=True, eq=False)
class Levy(NoiseTerm):
    """Additive noise with jumps of all sizes: symmetric alpha-stable increments sigma dt^(1/alpha) z.

    E exp(iuz) = exp(-|u|^alpha / 2), so that alpha = 2 is additive noise in law; for smaller alpha the
    variance is infinite. Source: Samorodnitsky & Taqqu, "Stable Non-Gaussian Random Processes", 1994,
    section 1.7 and chapter 3. On CUDA a kernel makes the random words, and torch operations the numbers.
    """

    name = "levy"
    summary = "symmetric alpha-stable increments, the same for every state"
    parameters = MappingProxyType(
        {"alpha": Parameter(1.5, above=1.0, at_most=2.0, summary="stability index; 2 is Gaussian")}
    )
    euler_orders = (0.5, 1.0)  # strong: 1 / alpha is known in general
    outside_theorem = (
        "the theorem is about Brownian motion; Levy noise is the same for two solutions and cancels"
    )
    cancels = True

    #: stability index, above 1 and at most 2
    alpha: float = 1.5

    @property
    def law(self) -> Law:
        """Return the law of symmetric alpha-stable numbers."""
        return partial(to_stable, alpha=self.alpha)

    @property
    def words(self) -> int:
        """Return 2: an angle and an exponential number."""
        return 2

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        scale = self.sigma_at(t) * math.pow(dt, 1 / self.alpha)
        return base + scale * z


def to_stable(raw: Tensor, alpha: float) -> Tensor:
    """Return symmetric alpha-stable numbers (..., n) float32 of words (..., 2 n), n angles in front.

    E exp(iuz) = exp(-|u|^alpha / 2). Source: Chambers, Mallows & Stuck, JASA 71, 1976: with V uniform on
    (-pi/2, pi/2) and W exponential, sin(alpha V) / cos(V)^(1/alpha) (cos((1 - alpha) V) / W)^(1/alpha - 1).
    """
    first, second = (philox.to_uniforms(half).double() + 2.0**-25 for half in raw.chunk(2, -1))  # in (0, 1)
    v, w = (first - 0.5) * math.pi, -second.log()
    tail = (((1 - alpha) * v).cos() / w) ** (1 / alpha - 1)
    stable: Tensor = 2 ** (-1 / alpha) * (alpha * v).sin() / v.cos() ** (1 / alpha) * tail
    return stable.float()


#: Kinds of noise by name.
NOISE_TERMS: Mapping[str, type[NoiseTerm]] = MappingProxyType(
    {term.name: term for term in (Additive, Multiplicative, Dropout, Jump, Levy)}
)
