"""The built-in Neural ODE / SDE image classifier."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from robustbench_sde.errors import BenchError
from robustbench_sde.models.layers import ConvDrift, Head, Stem
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.sde.diffusion import DIFFUSIONS
from robustbench_sde.sde.draws import BrownianPaths, Draws, KeyedRandom, Stream
from robustbench_sde.sde.solvers import solve


class Classifier(nn.Module):
    """stem -> flow(s) dh = f(h, t) dt + G(h, t) dB -> head (Liu et al., CVPR 2020).

    Draws are folded into the batch after the stem, which is deterministic and runs once per image.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        #: what tables call it; `load_checkpoint` sets the name of the file
        self.name = spec.preset
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean, device="cpu").view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std, device="cpu").view(-1, 1, 1), persistent=False)
        self.stem = Stem(spec.channels, spec.features, spec.stem_strides, spec.norm_groups)
        self.flows = nn.ModuleList(ConvDrift(spec.features, spec.norm_groups) for _ in range(spec.blocks))
        self.head = Head(spec.features, spec.classes, spec.norm_groups)

    @classmethod
    def from_weights(cls, spec: ModelSpec, weights: Mapping[str, Tensor]) -> Self:
        """A classifier that owns `weights`: names and shapes as in `weight_shapes`."""
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
            model = cls(spec)
        model.load_state_dict(weights, assign=True)
        return model

    @classmethod
    def initialised(cls, spec: ModelSpec, seed: int) -> Self:
        """Untrained weights, keyed by seed and parameter name: He normal, norms 1, biases 0."""
        weights = {}
        for name, shape in cls.weight_shapes(spec).items():
            if len(shape) > 1:
                normals = KeyedRandom(seed, Stream.TRAIN, f"init/{name}").normals([0], shape)[0]
                weights[name] = normals * math.sqrt(2 / math.prod(shape[1:]))
            else:
                weights[name] = torch.full(shape, float("norm" in name and name.endswith("weight")))
        return cls.from_weights(spec, weights)

    @classmethod
    def weight_shapes(cls, spec: ModelSpec) -> dict[str, torch.Size]:
        """Shapes of all weights, by name; allocates nothing."""
        with torch.device("meta"):
            return {name: tensor.shape for name, tensor in cls(spec).state_dict().items()}

    @property
    def noise(self) -> str:
        """The diffusion term, `none` for an ODE and where the noise is switched off."""
        return self.spec.noise.kind if self.stochastic else "none"

    @property
    def sigma(self) -> float:
        """Noise scale at test time."""
        return self.spec.noise.sigma

    @property
    def stochastic(self) -> bool:
        """Whether draws differ."""
        return self.spec.noise.active

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.spec.image_shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.spec.classes

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.linear.weight.device

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Logits (draws, images, classes) of float images (B, C, H, W) in [0, 1]; an ODE runs once."""
        spec = self.spec
        h = self.stem((images - self.mean) / self.std).unsqueeze(0)
        diffusion = DIFFUSIONS[spec.noise.kind](spec.noise.sigma) if self.stochastic else None
        for site, drift in enumerate(self.flows):
            normals = None
            if diffusion is not None:
                normals = BrownianPaths(
                    draws, image_ids, h.shape[2:], steps=spec.steps, site=site, device=h.device
                )
            h = solve(drift, diffusion, h, normals, horizon=spec.horizon, steps=spec.steps)
        logits: Tensor = self.head(h.flatten(0, 1)).unflatten(0, h.shape[:2])
        return logits.expand(len(draws), -1, -1)

    def with_noise(self, *, sigma: float | None = None, enabled: bool = True) -> "Classifier":
        """The same weights with another noise at test time.

        Args:
            sigma: noise scale that replaces the trained one; no effect on an ODE, which has no noise term.
            enabled: False switches the noise off (the drift alone).

        Raises:
            BenchError: sigma is negative or not finite.
        """
        if sigma is not None and not 0 <= sigma <= 1e3:
            raise BenchError(f"sigma is {sigma}; it must be between 0 and 1000")
        noise = self.spec.noise
        if not enabled:
            noise = noise.model_copy(update={"sigma": 0.0})
        elif sigma is not None and noise.kind != "none":
            noise = noise.model_copy(update={"sigma": float(sigma)})
        twin = copy.copy(self)
        twin.spec = self.spec.model_copy(update={"noise": noise})
        return twin
