"""Other people's networks as an evaluation sees them: three kinds, by where their randomness comes from."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol, Self, final, runtime_checkable

import torch
from torch import Tensor, nn

from robustbench_sde.choices import Precision
from robustbench_sde.errors import BenchError, counted
from robustbench_sde.models.arithmetic import arithmetic, carry_over
from robustbench_sde.models.base import ClassifierBase
from robustbench_sde.models.modules.contained import contained
from robustbench_sde.models.modules.factory import Origin
from robustbench_sde.models.modules.forked import forked, seeds
from robustbench_sde.models.modules.outputs import ClassMap
from robustbench_sde.models.modules.passes import Passes, check_rows, logits_of
from robustbench_sde.sde.draws import BrownianPaths, Draws

#: Draws of an image that an opaque module makes in one pass. Eight rows cost 1.2 times what they cost in a
#: large batch, and are what an attack asks for by default.
DRAWS_PER_PASS = 8


@runtime_checkable
class KeyedNoise(Protocol):
    """A module that takes its noise as an argument, so that every draw can be keyed (docs/your-model.md)."""

    def noise_shape(self, image_shape: tuple[int, int, int]) -> Sequence[int]:
        """Shape of the standard normals that one forward pass of one image needs."""

    def forward_with_noise(self, images: Tensor, noise: Tensor) -> Tensor:
        """Logits (rows, classes) of images (rows, C, H, W) and noise (rows, *noise_shape).

        Row b depends on nothing but image b and noise b.
        """


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std, each one number or one per channel, for images in [0, 1]."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        if len(self.mean) != len(self.std) or not all(map(math.isfinite, numbers)) or min(self.std) <= 0:
            raise BenchError(
                f"normalize {self}: mean and std must be as many finite numbers, and std above 0"
            )

    @classmethod
    def parse(cls, text: str) -> "Normalisation":
        """``0.5,0.5``, ``0,1/255``, or the means of all channels and then their deviations.

        Raises:
            BenchError: it is nothing of that.
        """
        try:
            numbers = [float(Fraction(part.strip())) for part in text.split(",")]
        except (ValueError, ZeroDivisionError) as error:
            raise BenchError(f"`normalize` {text!r}: write mean,std as in 0.5,0.5 or 0,1/255") from error
        if len(numbers) % 2:
            count = counted(len(numbers), "number")
            raise BenchError(f"`normalize` {text!r} has {count}: give as many means as deviations")
        half = len(numbers) // 2
        return cls(tuple(numbers[:half]), tuple(numbers[half:]))

    def __str__(self) -> str:
        return ",".join(f"{number:.6g}" for number in (*self.mean, *self.std))

    def check(self, channels: int) -> None:
        """Raises BenchError unless it fits images of so many channels."""
        if len(self.mean) not in (1, channels):
            raise BenchError(f"normalize {self} has {len(self.mean)} means; images have {channels} channels")

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W)."""
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std


#: Where the randomness of a module comes from, as the column `noise` of a table says it.
NoiseSource = Literal["none", "keyed", "opaque"]


@dataclass(frozen=True)
class Interface:
    """Facts about a module that its evaluation needs; `models.modules.examine` finds them out."""

    #: what tables call it
    name: str
    image_shape: tuple[int, int, int]
    classes: int
    noise: NoiseSource
    normalisation: Normalisation = field(default_factory=Normalisation)
    #: rows of a pass of an opaque module, all draws of one image; 1 if the rows of a pass share noise
    draws_per_pass: int = DRAWS_PER_PASS
    #: True if the images of a pass act on each other (a little), so that each gets a pass of its own
    alone: bool = False
    #: change that other images would make to logits or gradients, relative to the largest; NaN: none
    batch_dependence: float = field(default=math.nan, compare=False)
    #: digest of the rounded logits of a few images: finds weights that no state dict holds
    fingerprint: str = ""
    precision: Precision = "fp32"
    #: outputs that stand for the classes; None: the outputs are the classes
    class_map: ClassMap | None = None
    #: type of the numbers that the module is given; None: float32
    dtype: torch.dtype | None = None

    def around(self, module: nn.Module, *, noise: bool = True) -> "ModuleClassifier":
        """The module as a `RandomClassifier`, with its noise or without.

        Raises:
            BenchError: its noise is opaque and to be switched off.
        """
        self.check_noise(noise)
        kinds: dict[str, type[Any]] = {"none": Deterministic, "keyed": Keyed, "opaque": Opaque}
        made: ModuleClassifier = kinds[self.noise](module, self)
        return made if noise or not isinstance(made, Keyed) else made.without_noise()

    def check_noise(self, noise: bool) -> None:
        """Raises BenchError if the noise is to be switched off and cannot be."""
        if self.noise == "opaque" and not noise:
            raise BenchError(
                f"the noise of {self.name} is part of the module: `noise=False` cannot switch it off"
            )


class ModuleClassifier(ClassifierBase, ABC):
    """An `nn.Module` as a `RandomClassifier`. It is evaluated in eval mode and left in the mode it was in."""

    stochastic: ClassVar[bool]
    #: not ours to know
    sigma: ClassVar[float] = math.nan

    def __init__(self, module: nn.Module, interface: Interface) -> None:
        self.module, self.interface = module, interface
        self.name = interface.name
        #: source of the noise; tables show as well that the images of a batch act on each other
        self.noise = interface.noise + (", batch-dependent" if interface.alone else "")
        self.image_shape, self.classes = interface.image_shape, interface.classes
        self.precision = interface.precision
        exact = interface.precision == "fp32" and interface.dtype in (None, torch.float64)
        self._pass = Passes(self.name, alone=interface.alone, exact=exact)
        #: what makes it again (`runs.sources`); None: it is here only
        self.origin: Origin | None = None

    @property
    def network(self) -> nn.Module:
        """The module, at whose parameters other libraries look for the device."""
        return self.module

    @property
    def batch_dependence(self) -> float:
        """Change that other images of a batch would make to logits (`Interface`); NaN: none."""
        return self.interface.batch_dependence

    @property
    def device(self) -> torch.device:
        """Device of the module."""
        return device_of(self.module)

    @final
    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Logits (draws, images, classes) of float images (B, C, H, W) in [0, 1]."""
        with evaluating(self.module), arithmetic(self.precision, images.device):
            images = self.interface.normalisation(images)
            if self.interface.dtype is not None:
                images = images.to(self.interface.dtype)
            logits = self._logits(images, image_ids, draws)
            if self.interface.class_map is not None:
                logits = self.interface.class_map(logits)
        carry_over(self.precision, logits)
        return logits

    @abstractmethod
    def _logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Return logits of normalised images."""


class Deterministic(ModuleClassifier):
    """Every draw is the same, and computed once."""

    stochastic, sigma = False, 0.0

    def _logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        return self._pass(self.module, images).expand(len(draws), -1, -1)


class Keyed(ModuleClassifier):
    """The module is handed its noise: all that `RandomClassifier` promises holds, draws are folded."""

    stochastic = True
    #: whether `logits` also takes images that differ from draw to draw, (draws, B, C, H, W)
    images_by_draw = True
    _noise_off = False

    def without_noise(self) -> Self:
        """Return a classifier of this module that gives it zeros for noise."""
        twin = copy.copy(self)
        twin._noise_off, twin.origin = True, None
        return twin

    def _logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        assert isinstance(self.module, KeyedNoise)  # found by `examine`
        shape = tuple(self.module.noise_shape(self.image_shape))
        (numbers,) = BrownianPaths(draws, image_ids, shape, steps=1, device=images.device)
        rows = images.flatten(0, 1) if images.ndim > 4 else images.repeat(len(draws), 1, 1, 1)
        noise = numbers.flatten(0, 1).to(images.dtype)
        noise = torch.zeros_like(noise) if self._noise_off else noise
        logits = self._pass(self.module.forward_with_noise, rows, noise)
        return logits.view(len(draws), len(image_ids), -1)


class Opaque(ModuleClassifier):
    """The module draws from the global generators, which are seeded for each pass and put back.

    A pass has a block of draws of one image, always a whole block, so that what it draws is a function of
    (seed, stream, image, block): a draw is keyed, whatever the batch and whichever draws are asked for. It is
    not the same on another device or version of torch, and cannot be switched off.
    """

    stochastic = True
    #: whether `logits` also takes images that differ from draw to draw, (draws, B, C, H, W)
    images_by_draw = True

    def _logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        apart = images if images.ndim > 4 else images[None]
        return torch.stack(
            [
                self._one(image, int(id_), draws)
                for image, id_ in zip(apart.unbind(1), image_ids, strict=True)
            ],
            1,
        )

    def _one(self, image: Tensor, image_id: int, draws: Draws) -> Tensor:
        """Logits (draws, classes) of one image (1, C, H, W), or of one for each draw (draws, C, H, W)."""
        size, wanted = self.interface.draws_per_pass, draws.indices
        first = wanted.start // size
        parts = []
        for block in range(first, -(-wanted.stop // size)):
            # rows of draws that nobody wants make noise, too, and get any image
            places = torch.arange(block * size, (block + 1) * size) - wanted.start
            rows = image[places.clamp(0, len(image) - 1).to(image.device)]
            words = seeds(draws.seed, draws.stream, image_id, block)
            with contained(self.name), forked(words, image.device):
                logits = logits_of(self.module(rows))
            check_rows(self.name, logits, size)
            parts.append(logits)
        return torch.cat(parts)[wanted.start - first * size :][: len(wanted)]


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's first tensor; the CPU if it has none."""
    tensors = (*module.parameters(), *module.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a module that is in train mode as a whole, and afterwards every part as it was.

    Where the module is in eval mode and parts of it are not, dropout say, that is somebody's will.
    """
    switched = [part for part in module.modules() if part.training] if module.training else []
    for part in switched:
        part.training = False
    try:
        yield
    finally:
        for part in switched:
            part.training = True
