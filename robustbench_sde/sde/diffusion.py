"""Noise terms of dh = f(h, t) dt + sum of G(h, t) dB, diagonal and in the Ito sense, and the jump process.

Each term has a Brownian motion of its own. Source: Liu et al., "How Does Noise Help Robustness?", CVPR 2020,
section 3.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.sde import philox
from robustbench_sde.sde.keyed import KeyedNumbers, Numbers, made
from robustbench_sde.sde.philox import Law


@dataclass(frozen=True, eq=False)
class NoiseTerm(ABC):
    """What noise adds to a state in a step; sigma(t) = sigma (1 + (growth - 1) t / horizon)."""

    #: scale at t = 0, >= 0: a number, or a learned tensor of no dimension
    sigma: float | Tensor
    #: sigma(T) / sigma(0), >= 0
    growth: float = 1.0
    horizon: float = 1.0

    @property
    def law(self) -> Law:
        """What a step draws: standard normals, unless a term says otherwise."""
        return philox.to_normals

    def sigma_at(self, t: float) -> float | Tensor:
        """The scale at time t."""
        return self.sigma * (1 + (self.growth - 1) * t / self.horizon)

    def advance(self, h: Tensor, drift: Tensor, t: float, z: Numbers, dt: float) -> Tensor:
        """h + f dt and the noise of one step from t: (draws, images, ...).

        Args:
            h, drift: (draws or 1, images, ...), the state at t and f(h, t).
            z: what `law` gives, made or not.
        """
        return self.add_noise(torch.add(h, drift, alpha=dt), t, h, drift, made(z), dt)

    @abstractmethod
    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        """`base` and the noise of one step from t, in one fused operation.

        Args:
            base: where the noise goes, of the shape of `h`.
            h: (draws or 1, images, ...), the state at t.
            drift: f(h, t), which a solver has at hand.
            z: what `law` gives, (draws, images, ...), with ones where entries share a number.
        """


class Diffusion(NoiseTerm):
    """A term G(h, t) dB with dB = sqrt(dt) z; z is standard normal."""

    @abstractmethod
    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        """G(h, t), the shape of `h`."""

    def advance(self, h: Tensor, drift: Tensor, t: float, z: Numbers, dt: float) -> Tensor:
        scale = self.sigma_at(t) * math.sqrt(dt)
        if isinstance(z, KeyedNumbers) and not isinstance(scale, Tensor):
            from robustbench_sde.sde.kernels import update

            if update.fits(h, drift, z):
                return update.advance(h, drift, z, list(DIFFUSIONS.values()).index(type(self)), dt, scale)
        return super().advance(h, drift, t, z, dt)

    def _scaled(self, t: float, z: Tensor, dt: float) -> tuple[Tensor, float]:
        """(z, a) such that a z = sigma(t) dB, with a number for `a`: what fused operations take."""
        scale = self.sigma_at(t) * math.sqrt(dt)
        return (scale * z, 1.0) if isinstance(scale, Tensor) else (z, scale)


class Additive(Diffusion):
    """G = sigma."""

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return torch.ones_like(h) * self.sigma_at(t)

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        z, scale = self._scaled(t, z, dt)
        return torch.add(base, z, alpha=scale)


class Multiplicative(Diffusion):
    """G = sigma h."""

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return self.sigma_at(t) * h

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        z, scale = self._scaled(t, z, dt)
        return torch.addcmul(base, h, z, value=scale)


class Dropout(Diffusion):
    """G = sigma f(h, t): the limit of residual dropout that keeps a share p, sigma = sqrt((1-p)/p)."""

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return self.sigma_at(t) * drift

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        z, scale = self._scaled(t, z, dt)
        return torch.addcmul(base, drift, z, value=scale)


@dataclass(frozen=True, eq=False)
class Jump(NoiseTerm):
    """Dropout as a jump process: with probability rate dt, a step adds +sigma h or -sigma h, by a fair coin.

    At most one jump a step, so rate dt must be at most 1. Its mean is 0 and its variance that of
    multiplicative noise with the scale sigma sqrt(rate).
    """

    #: expected jumps per unit of time
    rate: float = 1.0

    @property
    def law(self) -> Law:
        """Uniforms in [0, 1)."""
        return philox.to_uniforms

    def add_noise(self, base: Tensor, t: float, h: Tensor, drift: Tensor, z: Tensor, dt: float) -> Tensor:
        probability = self.rate * dt
        jumps = (z < probability / 2).to(h.dtype) - ((z >= probability / 2) & (z < probability)).to(h.dtype)
        return base + self.sigma_at(t) * h * jumps


#: Terms that are diffusions, by kind.
DIFFUSIONS: dict[str, type[Diffusion]] = {
    "additive": Additive,
    "multiplicative": Multiplicative,
    "dropout": Dropout,
}
