"""Diffusion terms G(h, t) of dh = f(h, t) dt + G(h, t) dB, diagonal, in the Ito sense.

Source: Liu et al., "How Does Noise Help Robustness?", CVPR 2020, section 3.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Diffusion(ABC):
    """A diagonal diffusion term with noise scale `sigma` >= 0 (per square root of the time unit)."""

    sigma: float

    @abstractmethod
    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        """G(h, t), the shape of `h`; `drift` is f(h, t), which a solver has at hand."""

    @abstractmethod
    def add_noise(self, base: Tensor, h: Tensor, drift: Tensor, z: Tensor, sqrt_dt: float) -> Tensor:
        """`base` + G(h, t) sqrt(dt) z in one fused operation; z is standard normal."""


class Additive(Diffusion):
    """G = sigma."""

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return torch.full_like(h, self.sigma)

    def add_noise(self, base: Tensor, h: Tensor, drift: Tensor, z: Tensor, sqrt_dt: float) -> Tensor:
        return torch.add(base, z, alpha=self.sigma * sqrt_dt)


class Multiplicative(Diffusion):
    """G = sigma h."""

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return self.sigma * h

    def add_noise(self, base: Tensor, h: Tensor, drift: Tensor, z: Tensor, sqrt_dt: float) -> Tensor:
        return torch.addcmul(base, h, z, value=self.sigma * sqrt_dt)


class Dropout(Diffusion):
    """G = sigma f(h, t): the limit of residual dropout that keeps a share p, sigma = sqrt((1-p)/p)."""

    def g(self, t: float, h: Tensor, drift: Tensor) -> Tensor:
        return self.sigma * drift

    def add_noise(self, base: Tensor, h: Tensor, drift: Tensor, z: Tensor, sqrt_dt: float) -> Tensor:
        return torch.addcmul(base, drift, z, value=self.sigma * sqrt_dt)


DIFFUSIONS: dict[str, type[Diffusion]] = {
    "additive": Additive,
    "multiplicative": Multiplicative,
    "dropout": Dropout,
}
