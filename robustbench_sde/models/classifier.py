"""The built-in Neural ODE / SDE image classifier."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from robustbench_sde.choices import NoiseShape, Precision
from robustbench_sde.errors import BenchError
from robustbench_sde.models.architectures import ARCHITECTURES
from robustbench_sde.models.arithmetic import arithmetic, carry_over
from robustbench_sde.models.base import ClassifierBase
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.graphs import GraphedPasses
from robustbench_sde.models.layers import Head
from robustbench_sde.models.layout import puts_channels_last, with_channels_last
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.models.strict import first_problem
from robustbench_sde.sde.draws import (
    BrownianPaths,
    Draws,
    KeyedRandom,
    Stream,
    chosen,
    path_key,
    term_site,
)
from robustbench_sde.sde.integrate import Equation
from robustbench_sde.sde.keyed import KeyedRows, has_kernels
from robustbench_sde.sde.solvers import SOLVERS, Drift

#: Largest absolute value of a state. Normalisation layers square their input: for larger states they return
#: NaN or only their bias, which does not depend on the image.
_OVERFLOW = 1e16


class Classifier(ClassifierBase, nn.Module):
    """stem -> flow(s) dh = f(h, t) dt + G(h, t) dB -> head (Liu et al., CVPR 2020).

    After the stem, draws become rows of the batch. The stem is deterministic and is evaluated once for each
    image.
    """

    #: whether `logits` also takes images that differ from draw to draw, (draws, B, C, H, W)
    images_by_draw = True

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        #: name in tables; `load_checkpoint` sets the name of the file
        self.name = spec.preset
        #: whether gradients compute states again (`with_recomputation`)
        self.recompute = False
        #: precision of convolutions and linear maps (`with_precision`)
        self.precision: Precision = "fp32"
        #: device settings of the computation (`with_compute`); weights are not moved
        self.compute = Compute()
        #: drifts that have been compiled, by flow; twins share them as they share weights
        self._compiled: dict[int, Drift] = {}
        #: passes that have been recorded as CUDA graphs
        self._graphs = GraphedPasses()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean, device="cpu").view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std, device="cpu").view(-1, 1, 1), persistent=False)
        architecture = ARCHITECTURES[spec.architecture]
        self.stem = architecture.stem(spec)
        drifts = (architecture.drift(spec.features, spec.norm_groups) for _ in range(spec.blocks))
        self.flows = nn.ModuleList(drifts)
        self.head = Head(spec.features, spec.classes, spec.norm_groups)
        self.learned = nn.ParameterDict(
            {term.kind: torch.full((spec.blocks,), term.sigma) for term in spec.noise if term.learned}
        )

    @classmethod
    def from_weights(cls, spec: ModelSpec, weights: Mapping[str, Tensor]) -> Self:
        """Make a classifier that owns `weights`, with names and shapes as in `weight_shapes`."""
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
            model = cls(spec)
        model.load_state_dict(weights, assign=True)
        return model

    @classmethod
    def initialised(cls, spec: ModelSpec, seed: int) -> Self:
        """Return untrained weights, keyed by seed and parameter name: He normal, norms 1, biases 0."""
        weights = {}
        for name, shape in cls.weight_shapes(spec).items():
            if len(shape) > 1:
                normals = KeyedRandom(seed, Stream.TRAIN, f"init/{name}").normals([0], shape)[0]
                weights[name] = normals * math.sqrt(2 / math.prod(shape[1:]))
            elif name.startswith("learned."):
                (term,) = (term for term in spec.noise if term.kind == name.removeprefix("learned."))
                weights[name] = torch.full(shape, term.sigma)
            else:
                weights[name] = torch.full(shape, float("norm" in name and name.endswith("weight")))
        return cls.from_weights(spec, weights)

    @classmethod
    def weight_shapes(cls, spec: ModelSpec) -> dict[str, torch.Size]:
        """Return the shapes of all weights by name, without allocating memory."""
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in cls(spec).state_dict().items()}

    @property
    def noise(self) -> str:
        """Noise terms joined by `+`; `none` for an ODE, and if the noise is switched off."""
        return "+".join(term.kind for term in self.spec.active_noise) or "none"

    @property
    def sigma(self) -> float:
        """Noise scale sigma(0) at test time; the mean over flows if learned, NaN if the terms differ."""
        terms = self.spec.active_noise
        if len(terms) == 1 and terms[0].learned:
            return float(self.learned[terms[0].kind].detach().mean())
        return self.spec.sigma

    @property
    def stochastic(self) -> bool:
        """Whether different draws give different logits."""
        return bool(self.spec.active_noise)

    @property
    def solver(self) -> str:
        """Name of the solver, in `SOLVERS`."""
        return self.spec.solver

    @property
    def steps(self) -> int:
        """Number of solver steps."""
        return self.spec.steps

    @property
    def network(self) -> nn.Module:
        """The classifier itself, at whose parameters other libraries look for the device."""
        return self

    @property
    def built_in(self) -> "Classifier":
        """The classifier itself, whose flow can be looked into."""
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image, (channels, height, width)."""
        return self.spec.image_shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.spec.classes

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.linear.weight.device

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Return logits (draws, images, classes) of float images (B, C, H, W) in [0, 1]; an ODE runs once.

        Images (draws, B, C, H, W) differ between draws; then the stem is evaluated for each draw. With an
        adaptive solver each image has its own pass, except in training.
        """
        if len(image_ids) > 1 and self._is_adaptive():
            ids = [int(one) for one in image_ids]
            alone = [
                self.logits(image, [id_], draws) for image, id_ in zip(images.split(1, -4), ids, strict=True)
            ]
            return torch.cat(alone, 1)
        rows = self._rows(images, image_ids, draws if self.stochastic else replace(draws, indices=range(1)))

        def run(images: Tensor, rows: KeyedRows | None) -> Tensor:
            with arithmetic(self.precision, images.device):
                logits = self._logits(images, image_ids, draws, rows).to(images.dtype)
            carry_over(self.precision, logits)
            return logits

        if rows is not None and self._records(images):
            weights = tuple(weight.data_ptr() for weight in self.parameters())
            logits = self._graphs(run, images, rows, weights)
        else:
            logits = run(images, rows)
        return logits.expand(len(draws), -1, -1)

    def _is_adaptive(self) -> bool:
        """Whether the images of a pass would share the steps that a solver chooses; training has batches."""
        return SOLVERS[self.spec.solver].order is None and self._is_frozen()

    def _is_frozen(self) -> bool:
        """Whether no gradient of a weight is wanted."""
        return not (torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters()))

    def _rows(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> KeyedRows | None:
        """Return what the noise of a pass is made from, if the device makes it."""
        if chosen(self.compute.noise_backend, images.device) == "host":
            return None
        return KeyedRows.of(path_key(draws), draws.indices, image_ids, images.device, draws.stream.paired)

    def _records(self, images: Tensor) -> bool:
        """Whether passes are recorded as CUDA graphs: fixed steps, frozen weights, noise from kernels."""
        return (
            self.compute.graphs
            and has_kernels(images.device)
            and chosen(self.compute.noise_backend, images.device) == "device"
            and not self.compute.compile
            and SOLVERS[self.spec.solver].order is not None
            and self._is_frozen()
            and not torch.cuda.is_current_stream_capturing()
        )

    def _logits(
        self,
        images: Tensor,
        image_ids: Sequence[int] | Tensor,
        draws: Draws,
        rows: KeyedRows | None,
    ) -> Tensor:
        """Return logits (draws, images, classes), with one draw for an ODE; NaN where a state overflowed."""
        ends = []
        innermost = puts_channels_last(self.compute, self.precision, images.device, frozen=self._is_frozen())
        for start, equations in self.chains(images, image_ids, draws, rows):
            h = with_channels_last(start) if innermost else start
            for equation in equations:
                h = equation.solve(h, recompute=self.recompute)
            ends.append(h)
        h = ARCHITECTURES[self.spec.architecture].join(ends)
        logits: Tensor = self.head(h.flatten(0, 1)).unflatten(0, h.shape[:2])
        sound = h.detach().abs().amax((2, 3, 4)) < _OVERFLOW  # vector_norm takes twenty times as long on CPUs
        return logits.masked_fill(~sound[:, :, None], math.nan)

    def chains(
        self,
        images: Tensor,
        image_ids: Sequence[int] | Tensor,
        draws: Draws,
        rows: KeyedRows | None = None,
    ) -> list[tuple[Tensor, list[Equation]]]:
        """Return the work of a forward pass: h(0), (1, images, C, H, W), and the equations it goes through.

        There is one chain, or several in parallel (`Architecture.starts`). If images differ between draws,
        h(0) is (draws, images, C, H, W).

        Args:
            images, image_ids, draws: as for `logits`.
            rows: `draws` and `image_ids` as they already lie on the device.
        """
        rows = self._rows(images, image_ids, draws) if rows is None else rows
        apart = images if images.ndim > 4 else images[None]
        h = self.stem((apart.flatten(0, 1) - self.mean) / self.std)
        h = h.to(images.dtype)  # under bf16 as well: what a solver adds up stays in fp32
        starts = [
            (start.unflatten(0, apart.shape[:2]), flows)
            for start, flows in ARCHITECTURES[self.spec.architecture].starts(h, len(self.flows))
        ]
        return [
            (start, [self._equation(flow, start, image_ids, draws, rows) for flow in flows])
            for start, flows in starts
        ]

    def _equation(
        self,
        flow: int,
        like: Tensor,
        image_ids: Sequence[int] | Tensor,
        draws: Draws,
        rows: KeyedRows | None,
    ) -> Equation:
        """Return the equation of a flow of states (..., C, H, W) such as `like`."""
        spec = self.spec
        noise = []
        for index, term in enumerate(spec.noise):
            if term.active:
                sigma = self.learned[term.kind][flow] if term.learned else term.sigma
                diffusion = term.term(sigma, spec.horizon)
                path = BrownianPaths(
                    draws,
                    image_ids,
                    _shape_of_noise(term.shape, like.shape[2:]),
                    steps=spec.steps,
                    site=term_site(flow, index),
                    law=diffusion.law,
                    words=diffusion.words,
                    device=like.device,
                    backend=self.compute.noise_backend,
                    rows=rows,
                )
                noise.append((diffusion, path))
        return Equation(self._drift(flow), noise, spec.horizon, spec.steps, SOLVERS[spec.solver])

    def _drift(self, flow: int) -> Drift:
        if not self.compute.compile:
            drift: Drift = self.flows[flow]
            return drift
        if flow not in self._compiled:  # for any number of rows and any time: two graphs, not one for each
            self._compiled[flow] = torch.compile(self.flows[flow], dynamic=True)
        return self._compiled[flow]

    def with_noise(self, *, sigma: float | None = None, enabled: bool = True) -> Self:
        """Return a classifier of these weights with another noise at test time.

        Args:
            sigma: noise scale that replaces the trained or learned one, of every term; no effect on an ODE,
                which has no noise term.
            enabled: False switches the noise off (the drift alone).

        Raises:
            BenchError: sigma is negative or not finite.
        """
        if sigma is not None and not 0 <= sigma <= 1e3:
            raise BenchError(f"`sigma` is {sigma}; it must be between 0 and 1000")
        if sigma is None and enabled:
            return self._twin()
        change = {"sigma": float(sigma) if sigma is not None and enabled else 0.0, "learned": False}
        return self._twin(noise=tuple(term.model_copy(update=change) for term in self.spec.noise))

    def without_noise(self) -> Self:
        """Return a classifier of these weights with its noise switched off: the drift alone."""
        return self.with_noise(enabled=False)

    def with_solver(self, *, solver: str | None = None, steps: int | None = None) -> Self:
        """Return a classifier of these weights with another solver or number of steps; None keeps it.

        Raises:
            BenchError: there is no such solver, it does not take the noise of this model (switch that off
                first for a solver of ODEs), or `steps` is not between 1 and 10,000.
        """
        changes = {"solver": solver, "steps": steps}
        return self._twin(**{name: value for name, value in changes.items() if value is not None})

    def with_recomputation(self, enabled: bool = True) -> Self:
        """Return this classifier with gradients whose memory grows like the square root of `steps`.

        States are computed again for the gradient, which costs about one more forward pass.
        """
        twin = self._twin()
        twin.recompute = enabled
        return twin

    def with_precision(self, precision: Precision) -> Self:
        """Return a classifier of these weights with another precision of convolutions and linear maps."""
        twin = self._twin()
        twin.precision = precision
        return twin

    def with_compute(self, compute: Compute) -> Self:
        """Return this classifier with another `Compute`; its numbers are equal up to float rounding."""
        twin = self._twin()
        twin.compute = compute
        return twin

    def _twin(self, **changes: object) -> Self:
        """Return a classifier of these weights under a changed specification."""
        twin = copy.copy(self)
        twin._graphs = GraphedPasses()  # what it records depends on all that makes it another
        try:
            twin.spec = ModelSpec.model_validate(self.spec.model_dump() | changes)
        except ValidationError as error:
            raise first_problem(error, self.name) from error
        if not any(term.learned for term in twin.spec.noise):  # its weights stay what its specification says
            twin._modules = self._modules | {"learned": nn.ParameterDict()}
        return twin


def _shape_of_noise(shape: NoiseShape, state: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the numbers of a step for one image whose state is `state` (C, H, W)."""
    shared = {"independent": 0, "channel": 2, "scalar": 3}[shape]
    return *state[: len(state) - shared], *[1] * shared
