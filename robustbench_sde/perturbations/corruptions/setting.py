"""What a recipe is told besides the images: whose they are, how large a pixel is, where frost is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robustbench_sde.sde import philox
from robustbench_sde.sde.draws import KeyedRandom, Stream


@dataclass(frozen=True)
class Setting:
    """The circumstances of one call: a recipe is a pure function of images, setting and parameters."""

    name: str
    severity: int
    seed: int
    #: keys of the random numbers, one for each image
    image_ids: Sequence[int]
    device: torch.device
    #: smaller side of the images over the resolution that the parameters were made for
    scale: float
    #: photograph pixels between two image pixels, for frost
    frost_step: float
    #: folder of the original frost photographs, or none
    frost_dir: Path | None

    def pixels(self, length: float) -> float:
        """A published length in pixels, scaled to the size of these images."""
        return length * self.scale

    def normals(self, *shape: int, part: str = "") -> Tensor:
        """Standard normals by image, (B, *shape) float32 on the images' device."""
        return self.host_normals(*shape, part=part).to(self.device)

    def uniforms(self, *shape: int, part: str = "") -> Tensor:
        """Uniforms in [0, 1) by image, (B, *shape) float32 on the images' device."""
        return self.host_uniforms(*shape, part=part).to(self.device)

    def host_normals(self, *shape: int, part: str = "") -> Tensor:
        """Standard normals for what is computed on the host, (B, *shape) float32 on the CPU."""
        return self._numbers(philox.to_normals, shape, part)

    def host_uniforms(self, *shape: int, part: str = "") -> Tensor:
        """Uniforms that Python has to know, such as angles: (B, *shape) float32 on the CPU."""
        return self._numbers(philox.to_uniforms, shape, part)

    def _numbers(self, law: philox.Law, shape: Sequence[int], part: str) -> Tensor:
        """`part` tells the random quantities of one recipe apart."""
        purpose = f"corrupt/{self.name}/{part}" if part else f"corrupt/{self.name}"
        size = math.prod(shape)
        words = KeyedRandom(self.seed, Stream.ATTACK, purpose).words(self.image_ids, size, draw=self.severity)
        return law(words)[:, :size].reshape(len(words), *shape)
