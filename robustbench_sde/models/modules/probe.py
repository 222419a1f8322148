"""Run somebody's module on a few images, to find out what it does."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, one_line
from robustbench_sde.models.arithmetic import arithmetic
from robustbench_sde.models.modules.adapter import KeyedNoise, Normalisation, device_of
from robustbench_sde.models.modules.contained import contained
from robustbench_sde.models.modules.forked import draws_numbers, forked
from robustbench_sde.models.modules.outputs import ClassMap
from robustbench_sde.models.modules.passes import logits_of
from robustbench_sde.sde.draws import KeyedRandom, Stream

_TUPLE = "; a part of it returns a tuple: torchdyn's NeuralODE returns times and states, take the last state"


@dataclass(frozen=True)
class Probe:
    """A module and images to try it on."""

    #: an `nn.Module`, or an object that is called like one
    module: torch.nn.Module
    data: ImageDataset
    #: name in messages
    name: str
    normalisation: Normalisation
    #: number of classes that tables know; 0: as many as the data set has
    classes: int = 0
    #: outputs that stand for the classes; None: the outputs are the classes
    class_map: ClassMap | None = None
    #: type of the numbers that the module is given; None: float32
    dtype: torch.dtype | None = None

    def images(self, count: int) -> Tensor:
        """Return the first images: (n, C, H, W) floats in [0, 1], n <= count, where the module is."""
        return to_float(self.data.images[:count]).to(device_of(self.module))

    def run(
        self,
        images: Tensor,
        ids: Sequence[int] | Tensor | None = None,
        seed: int = 0,
        *,
        gradient: bool = False,
        mapped: bool = True,
    ) -> Tensor:
        """Return the outputs of one pass whose global generators start from `seed`.

        Args:
            images: (B, C, H, W) floats in [0, 1].
            ids: of the images, which decide the noise that a keyed module is handed; None: 0 to B - 1.
            seed: of the generators of torch, numpy and Python.
            gradient: whether the outputs shall have a graph.
            mapped: False returns all outputs, those that `class_map` leaves out as well.

        Raises:
            BenchError: the module raises, or returns no tensor.
        """
        try:
            device = device_of(self.module)
            with forked((seed, seed), device), torch.set_grad_enabled(gradient), arithmetic("fp32", device):
                outputs = logits_of(self._forward(self._normal(images), ids))
                return outputs if self.class_map is None or not mapped else self.class_map(outputs)
        except BenchError as error:
            raise BenchError(f"{self.name}: {error}") from error
        except Exception as error:  # somebody else's code may raise anything
            shape = "x".join(map(str, images.shape))
            hint = _TUPLE if isinstance(error, TypeError) and "not tuple" in str(error) else ""
            raise BenchError(f"{self.name} fails on images of {shape}: {one_line(error)}{hint}") from error

    def draws_numbers(self, images: Tensor) -> bool:
        """Whether a pass on images that it takes draws random numbers, used or not."""
        return draws_numbers(lambda: self._forward(self._normal(images), None), images.device)

    def _normal(self, images: Tensor) -> Tensor:
        normal = self.normalisation(images)
        return normal if self.dtype is None else normal.to(self.dtype)

    def _forward(self, images: Tensor, ids: Sequence[int] | Tensor | None) -> object:
        if not isinstance(self.module, KeyedNoise):
            with contained(self.name):
                return self.module(images)
        shape = tuple(self.module.noise_shape(self.data.image_shape))
        ids = range(len(images)) if ids is None else ids
        noise = KeyedRandom(0, Stream.AUDIT, "examine").normals(ids, shape)
        with contained(self.name):
            return self.module.forward_with_noise(images, noise.to(images.device, images.dtype))


def weighted(outputs: Tensor) -> Tensor:
    """Return a sum of outputs (..., classes), as one number: each class has a weight of its own.

    Its gradient is zero only where that of every output is, or by an unlikely chance: no softmax saturates.
    """
    weights = torch.linspace(1, 2, outputs.shape[-1], device=outputs.device)
    return (outputs * weights).sum()


def distance(one: Tensor, other: Tensor, scale: Tensor | None = None) -> float:
    """Return the largest difference relative to the largest number of `scale`, or of `one`.

    Where both are NaN there is no difference; where one is, it is infinite.
    """
    largest = (one if scale is None else scale).nan_to_num(0, 0, 0).abs().max().clamp_min(1e-12)
    difference = (one - other).abs().masked_fill((one.isnan() & other.isnan()) | (one == other), 0)
    return float(difference.nan_to_num(torch.inf, torch.inf).max() / largest)
