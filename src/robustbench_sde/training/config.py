"""What a training is made of."""

import math
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import unknown_name
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.models.spec import ModelSpec, NoiseKind, NoiseSpec, Spec, first_problem

Schedule = Literal["one-cycle", "step"]

#: (crop padding, horizontal flip) by data set; anything else is padded by an eighth of its side and flipped
AUGMENTATION: dict[str, tuple[int, bool]] = {
    "digits": (2, False),
    "mnist": (2, False),
    "fashion-mnist": (2, True),
    "svhn": (4, False),
    "cifar10": (4, True),
    "cifar100": (4, True),
    "stl10": (12, True),
}


class TrainConfig(Spec):
    """Everything that decides the weights, apart from the data."""

    preset: str = "digits"
    noise: NoiseKind = "none"
    #: noise scale; for dropout sqrt((1-p)/p) with p the share kept
    sigma: float = Field(default=0.5, ge=0, le=1e3)
    #: None takes the preset's
    steps: int | None = Field(default=None, ge=1, le=10_000)
    horizon: float = Field(default=1.0, gt=0, le=1e3)
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=64, ge=1)
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Schedule = "one-cycle"
    #: None takes the data set's usual one (`AUGMENTATION`)
    crop_padding: int | None = Field(default=None, ge=0)
    flip: bool | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _noise_has_a_scale(self) -> Self:
        if self.noise != "none" and self.sigma == 0:
            raise ValueError("sigma 0 with a noise term is an ODE: choose noise none, or a sigma above 0")
        return self

    def default_name(self, data: ImageDataset) -> str:
        """Name of a checkpoint that does not say where it goes: data, noise and seed."""
        noise = "ode" if self.noise == "none" else f"{self.noise}-{self.sigma:g}"
        return f"{data.name.replace(':', '-')}-{noise}-seed{self.seed}"

    def augmentation(self, data: ImageDataset) -> tuple[int, bool]:
        """(crop padding, flip) for this data set."""
        padding, flip = AUGMENTATION.get(data.name, (data.images.shape[-1] // 8, True))
        return (
            padding if self.crop_padding is None else self.crop_padding,
            flip if self.flip is None else self.flip,
        )

    def model_spec(self, data: ImageDataset) -> ModelSpec:
        """The architecture for this data: its shape, classes, and per-channel mean and deviation."""
        preset = dict(PRESETS[self.preset])
        pixels = data.images.double().div(255).transpose(0, 1).flatten(1)
        channels, height, width = data.image_shape
        return ModelSpec(
            preset=self.preset,
            channels=channels,
            height=height,
            width=width,
            classes=data.classes,
            horizon=self.horizon,
            noise=NoiseSpec(kind=self.noise, sigma=0.0 if self.noise == "none" else self.sigma),
            mean=tuple(round(value, 4) for value in pixels.mean(1).tolist()),
            std=tuple(max(round(value, 4), 1e-3) for value in pixels.std(1).tolist()),
            **preset | ({} if self.steps is None else {"steps": self.steps}),
        )


def parse_config(options: Mapping[str, object]) -> TrainConfig:
    """A configuration from the command line or a file.

    Raises:
        BenchError: an unknown key (with the nearest known one), or a value of the wrong kind or range.
    """
    for name in options:
        if name not in TrainConfig.model_fields:
            raise unknown_name("training option", name, TrainConfig.model_fields)
    try:
        config = TrainConfig.model_validate(options)
    except ValidationError as error:
        raise first_problem(error) from error
    if config.preset not in PRESETS:
        raise unknown_name("preset", config.preset, PRESETS)
    return config


def learning_rate(config: TrainConfig, progress: float) -> float:
    """The rate at a share `progress` in [0, 1) of the training.

    one-cycle: linear from 0.04 lr to lr over the first quarter, then half a cosine to 0 (Smith & Topin 2018).
    step: lr, divided by 10 after 60/110 and again after 90/110 of the epochs (Liu et al. 2020).
    """
    if config.schedule == "step":
        return config.lr * 0.1 ** ((progress >= 60 / 110) + (progress >= 90 / 110))
    warm_up = 0.25
    if progress < warm_up:
        return config.lr * (0.04 + 0.96 * progress / warm_up)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
