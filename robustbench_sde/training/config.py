"""Define the configuration of a training and what follows from it."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from robustbench_sde.choices import Adversarial, NoiseShape, NormName, Precision, Schedule
from robustbench_sde.data import ImageDataset
from robustbench_sde.data.registry import entry_of
from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.models.noise import NoiseSpec, parse_noise
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.models.strict import Seed, Spec, first_problem
from robustbench_sde.sde.solvers import SOLVERS
from robustbench_sde.texts import parse_budget


def _budget(value: object) -> object:
    """Return a budget as a number; YAML and the command line give ``8/255`` as text."""
    try:
        return parse_budget(value) if isinstance(value, str) else value
    except BenchError as error:
        raise ValueError("write a number like 0.03 or 8/255") from error


Budget = Annotated[float, BeforeValidator(_budget), Field(gt=0, le=1e4)]


class TrainConfig(Spec):
    """Options that, with the data, decide the weights."""

    preset: str = "digits"
    #: kind of noise: ``none``, one, or several with scales: ``additive:0.3+multiplicative`` (`parse_noise`);
    #: not given: ``multiplicative``, or ``none`` for presets and solvers that have no noise (`usual_noise`)
    noise: str = "multiplicative"
    #: noise scale; for dropout sqrt((1-p)/p) with p the share kept
    sigma: float = Field(default=0.5, ge=0, le=1e3)
    #: share p kept by dropout, in place of `sigma`
    keep: float | None = Field(default=None, gt=0, lt=1)
    noise_shape: NoiseShape = "independent"
    #: growth sigma(T) / sigma(0)
    sigma_growth: float = Field(default=1.0, ge=0, le=1e3)
    learn_sigma: bool = False
    #: expected number of jumps of an entry per unit of time
    jump_rate: float = Field(default=2.0, gt=0, le=1e4)
    solver: str = "euler"
    #: number of solver steps; None: the preset's
    steps: int | None = Field(default=None, ge=1, le=10_000)
    horizon: float = Field(default=1.0, gt=0, le=1e3)
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=64, ge=1)
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Schedule = "one-cycle"
    #: number format of convolutions and linear maps; weights, updates and states stay in single precision
    precision: Precision = "fp32"
    #: random shift in pixels; None: the usual one of the data set (`DatasetEntry.augmentation`)
    crop_padding: int | None = Field(default=None, ge=0)
    flip: bool | None = None
    #: standard deviation of Gaussian noise on the images, which may leave [0, 1] (Cohen et al. 2019)
    augment_noise: float = Field(default=0.0, ge=0, le=10)
    adversarial: Adversarial = "none"
    adversarial_norm: NormName = "linf"
    #: budget, in units of images in [0, 1]
    adversarial_eps: Budget = 8 / 255
    adversarial_steps: int = Field(default=10, ge=1, le=1000)
    #: size of a gradient step; None: 2.5 eps / steps
    adversarial_step_size: Budget | None = None
    #: weight of the divergence in TRADES
    trades_beta: float = Field(default=6.0, gt=0, le=1e3)
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _noise_is_chosen(cls, options: Any) -> Any:
        if isinstance(options, Mapping) and "noise" not in options:
            return {**options, "noise": usual_noise(options.get("preset"), options.get("solver"))}
        return options

    @model_validator(mode="after")
    def _noise_makes_sense(self) -> Self:
        try:
            terms = self.noise_terms()
        except BenchError as error:
            raise ValueError(str(error)) from error
        if any(term.kind != "none" and term.sigma == 0 for term in terms):
            raise ValueError("sigma 0 with a noise term is an ODE: choose noise none, or a sigma above 0")
        if self.keep is not None and all(term.kind != "dropout" for term in terms):
            raise ValueError("keep is the share that dropout keeps: choose noise dropout, or leave it out")
        return self

    @model_validator(mode="after")
    def _baselines_make_sense(self) -> Self:
        if self.adversarial != "none" and self.augment_noise:
            raise ValueError("choose adversarial training or augment_noise: their combination is no baseline")
        needed = {"trades_beta": "trades"} | {
            name: "pgd" for name in type(self).model_fields if name.startswith("adversarial_")
        }
        for name, kind in needed.items():
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and self.adversarial not in (kind, "trades"):
                raise ValueError(f"{name} has no effect without adversarial {kind}")
        return self

    def noise_terms(self) -> tuple[NoiseSpec, ...]:
        """Return the noise terms that the options on noise describe."""
        return parse_noise(
            self.noise,
            sigma=self.sigma,
            keep=self.keep,
            shape=self.noise_shape,
            growth=self.sigma_growth,
            learned=self.learn_sigma,
            rate=self.jump_rate,
        )

    @property
    def sigma_matters(self) -> bool:
        """Whether `sigma` is the scale of a noise term; terms and `keep` may bring their own."""
        other = self.model_copy(update={"sigma": 2.0 if self.sigma == 1.0 else 1.0})
        pairs = zip(self.noise_terms(), other.noise_terms(), strict=True)
        return any(mine != its for mine, its in pairs if mine.kind != "none")

    def default_name(self, data: ImageDataset) -> str:
        """Return the default name of a checkpoint: data, preset, noise, robust training and seed."""
        shape = "" if self.noise_shape == "independent" else f"-{self.noise_shape}"
        terms = [f"{term.label}{shape}" for term in self.noise_terms() if term.kind != "none"]
        preset = "" if self.preset in ("digits", "cifar") else self.preset
        noise = "+".join(terms) or ("" if "resnet" in preset else "ode")
        baseline = "" if self.adversarial == "none" else f"{self.adversarial}-{self.adversarial_eps:.3g}"
        if self.augment_noise:
            baseline = f"gaussian-{self.augment_noise:g}"
        parts = (data.name.replace(":", "-"), preset, noise, baseline, f"seed{self.seed}")
        return "-".join(part for part in parts if part)

    def augmentation(self, data: ImageDataset) -> tuple[int, bool]:
        """Return (crop padding, flip) for this data set."""
        entry = entry_of(data.name)
        usual = None if entry is None else entry.augmentation
        padding, flip = usual or (data.images.shape[-1] // 8, True)
        return (
            padding if self.crop_padding is None else self.crop_padding,
            flip if self.flip is None else self.flip,
        )

    def model_spec(self, data: ImageDataset) -> ModelSpec:
        """Return the architecture for this data: its shape, classes, and per-channel mean and deviation.

        Raises:
            BenchError: noise, solver and steps do not fit together.
        """
        preset = dict(PRESETS[self.preset])
        channels, height, width = data.image_shape
        pixels = data.images.double().div(255).transpose(0, 1).flatten(1)
        mean = tuple(round(value, 4) for value in pixels.mean(1).tolist())
        std = tuple(max(round(value, 4), 1e-3) for value in pixels.std(1).tolist())
        if preset.get("architecture", "plain") != "plain":  # networks of others take pixels as they are
            mean, std = (0.0,) * channels, (1.0,) * channels
        fields = {
            "preset": self.preset,
            "channels": channels,
            "height": height,
            "width": width,
            "classes": data.classes,
            "horizon": self.horizon,
            "solver": self.solver,
            "noise": self.noise_terms(),
            "mean": mean,
            "std": std,
        }
        steps = {} if self.steps is None else {"steps": self.steps}
        try:
            return ModelSpec.model_validate(fields | preset | steps)
        except ValidationError as error:
            raise first_problem(error, parameters=True) from error


def usual_noise(preset: object, solver: object) -> str:
    """Return the noise of a training that asks for none in particular: ``multiplicative``, if it can have it.

    A ResNet is trained without noise, and so is what a solver of ODEs solves.
    """
    odes = isinstance(solver, str) and solver in SOLVERS and not SOLVERS[solver].noise_orders
    return "none" if odes or "resnet" in str(preset) else "multiplicative"


def parse_config(options: Mapping[str, object]) -> TrainConfig:
    """Check and return a configuration from the command line or a file.

    Raises:
        BenchError: an unknown key (with the nearest known one), or a value of the wrong kind or range.
    """
    for name in options:
        if name not in TrainConfig.model_fields:
            raise unknown_name("training option", name, TrainConfig.model_fields)
    try:
        config = TrainConfig.model_validate(options)
    except ValidationError as error:
        raise first_problem(error, parameters=True) from error
    if config.preset not in PRESETS:
        raise unknown_name("preset", config.preset, PRESETS)
    return config


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Return the learning rate at a share `progress` in [0, 1) of the training.

    one-cycle: linear from 0.04 lr to lr over the first quarter, then half a cosine to 0 (Smith & Topin 2018).
    step: lr, divided by 10 after 60/110 and again after 90/110 of the epochs (Liu et al. 2020).
    """
    if config.schedule == "step":
        return config.lr * 0.1 ** ((progress >= 60 / 110) + (progress >= 90 / 110))
    warm_up = 0.25
    if progress < warm_up:
        return config.lr * (0.04 + 0.96 * progress / warm_up)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
