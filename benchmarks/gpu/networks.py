"""The networks that are timed, their convolutions alone, and the loop that a user would write."""

from collections.abc import Callable
from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.models.spec import ModelSpec, NoiseSpec
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.sde.draws import Draws, Stream

#: draws of each image in a pass
DRAWS = 8
SIGMA = 0.5


def network(preset: str, device: str = "cuda") -> Classifier:
    """A preset with multiplicative noise, untrained and frozen; digits has one channel, the others three."""
    channels = 1 if preset == "digits" else 3
    spec = ModelSpec.model_validate(
        {
            **PRESETS[preset],
            "channels": channels,
            "height": 32,
            "width": 32,
            "classes": 10,
            "noise": NoiseSpec(kind="multiplicative", sigma=SIGMA),
            "mean": (0.5,) * channels,
            "std": (0.25,) * channels,
        }
    )
    return Classifier.initialised(spec, 0).requires_grad_(False).eval().to(device)


def images_for(model: Classifier, rows: int) -> Tensor:
    """Uniform images, (rows / DRAWS, C, H, W), on the model's device."""
    shape = (max(1, rows // DRAWS), *model.image_shape)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(model.device)


def victim(model: Classifier, images: Tensor) -> Victim:
    """Return what an attack asks of the model about these images."""
    batch = Batch(
        images, torch.zeros(len(images), dtype=torch.int64, device=images.device), torch.arange(len(images))
    )
    return Victim(model, batch, seed=0, eot_draws=DRAWS, restart=0, rows=len(images) * DRAWS)


class _Recorded(TorchDispatchMode):
    """Notes the arguments of every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Size, Tensor, tuple[object, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.convolution.default and args[0].shape[-1] > 1:
            self.calls.append((args[0].shape, args[1], args[3:]))
        return func(*args, **(kwargs or {}))


class Convolutions:
    """The convolutions of a pass without their biases, each on numbers of its own, and their gradients.

    Time's convolutions in liu2020, of one row, are among them.
    """

    def __init__(
        self, model: Classifier, images: Tensor, layout: torch.memory_format, dtype: torch.dtype
    ) -> None:
        if "graphs" in {field.name for field in fields(Compute)}:  # a replay shows none of its operations
            model = model.with_compute(Compute("cuda", graphs=False))
        with torch.no_grad(), _Recorded() as recorded:
            model.logits(images, range(len(images)), Draws(0, Stream.AUDIT, range(DRAWS)))
        self._calls = []
        inputs: dict[torch.Size, Tensor] = {}
        for shape, weight, rest in recorded.calls:
            if shape not in inputs:
                inputs[shape] = (
                    torch.rand(shape, device=images.device).to(dtype).contiguous(memory_format=layout)
                )
            weight = weight.detach().to(dtype).contiguous(memory_format=layout)
            self._calls.append((inputs[shape], weight, rest))

    def forward(self) -> None:
        """Every convolution once."""
        with torch.no_grad():
            for x, weight, rest in self._calls:
                torch.ops.aten.convolution(x, weight, None, *rest)

    def gradient(self) -> None:
        """Every convolution and its gradient with respect to its input, in the order of a pass."""
        with torch.no_grad():
            ends = [torch.ops.aten.convolution(x, weight, None, *rest) for x, weight, rest in self._calls]
            for (x, weight, rest), end in zip(reversed(self._calls), reversed(ends), strict=True):
                torch.ops.aten.convolution_backward(end, x, weight, None, *rest, [True, False, False])


def plain_pass(model: Classifier, images: Tensor, draws: int = DRAWS) -> Tensor:
    """A user's careful loop, draws folded, torch.randn in every step: logits (draws, B, classes)."""
    spec = model.spec
    dt = spec.horizon / spec.steps
    h = model.stem((images - model.mean) / model.std).repeat(draws, 1, 1, 1)
    for step in range(spec.steps):
        h = h + model.flows[0](step * dt, h) * dt + SIGMA * h * torch.randn_like(h) * dt**0.5
    logits: Tensor = model.head(h)
    return logits.unflatten(0, (draws, len(images)))


def gradient_of(logits: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The gradient of the cross-entropy of the mean probability at class 0."""
    images = images.detach().requires_grad_()
    mean = F.softmax(logits(images), -1).mean(0)
    (gradient,) = torch.autograd.grad(-mean[:, 0].log().sum(), images)
    return gradient
