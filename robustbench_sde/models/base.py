"""The base of all classifiers: what they answer where they have no ability of their own."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robustbench_sde.errors import counted
from robustbench_sde.models.modules.as_module import PlainModule
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.sde.draws import Draws
from robustbench_sde.sde.integrate import Equation
from robustbench_sde.shown import html_facts

if TYPE_CHECKING:
    from robustbench_sde.models.classifier import Classifier


class ClassifierBase:
    """Optional abilities of a `RandomClassifier`: none. A subclass overrides those that it has."""

    def __repr__(self: RandomClassifier) -> str:
        """Return one line like ``<Classifier digits-ode: 1x32x32 to 10 classes, no noise>``."""
        return f"<{type(self).__name__} {self.name}: {', '.join(_facts(self).values())}>"

    def _repr_html_(self: RandomClassifier) -> str:
        """Return a table of facts, for notebooks."""
        return html_facts(f"{type(self).__name__} {self.name}", _facts(self))

    @property
    def solver(self) -> str:
        """Name of its solver; empty without one."""
        return ""

    @property
    def steps(self) -> int:
        """Number of steps of its solver; 0 without one."""
        return 0

    @property
    def batch_dependence(self) -> float:
        """Change that other images of a batch would make to logits, relative to the largest; NaN: none."""
        return math.nan

    @property
    def draws_in_pairs(self) -> bool:
        """Whether draws 2j and 2j + 1 may mirror each other, so that statistics have to count pairs."""
        return True

    @property
    def images_by_draw(self) -> bool:
        """Whether `logits` also takes images that differ from draw to draw, (draws, B, C, H, W)."""
        return False

    @property
    def network(self) -> nn.Module | None:
        """Network inside, at whose parameters other libraries look for the device; None: it has none."""
        return None

    @property
    def built_in(self) -> "Classifier | None":
        """Network of this package inside, whose flow can be looked into; None for any other."""
        return None

    def chains(
        self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws
    ) -> list[tuple[Tensor, list[Equation]]]:
        """Return the starts and equations of a pass, as `Classifier.chains`; none unless `built_in`."""
        return []

    def without_noise(self) -> RandomClassifier | None:
        """Make a classifier with its noise switched off; None if that is impossible."""
        return None

    def with_solver(self, *, solver: str | None = None, steps: int | None = None) -> RandomClassifier | None:
        """Make a classifier with another solver or number of steps; None if its solver cannot be changed.

        Raises:
            BenchError: the solver does not take the noise of the classifier.
        """
        return None

    def as_module(
        self: RandomClassifier, draws: int = 16, *, fixed: bool = False, seed: int = 0
    ) -> PlainModule:
        """A plain `nn.Module`, for torchattacks, foolbox, ART or AutoAttack.

        It returns the log of the mean probability over `draws` fresh draws, or always the same where `fixed`.
        Score the images that an attack has made of it; believe nothing else that a library says about them
        (`PlainModule`).

        Args:
            draws: averaged in every call, at least 1; a deterministic model needs one.
            fixed: the same draws for every image in every call, instead of the next ones.
            seed: of the draws, which are of the `attack` stream: none of them scores.

        Returns:
            A module of images (B, C, H, W) float in [0, 1] to log-probabilities (B, classes).
        """
        return PlainModule(self, draws, fixed=fixed, seed=seed)


def _facts(model: RandomClassifier) -> dict[str, str]:
    """Return what is known of a classifier, in words, by name; nothing of it is computed."""
    noise = "no noise" if model.noise == "none" else f"{model.noise} noise"
    if not math.isnan(model.sigma) and model.noise != "none":
        noise += f" of sigma {model.sigma:g}"
    facts = {
        "images": f"{'x'.join(map(str, model.image_shape))} to {model.classes} classes",
        "noise": noise,
    }
    if model.solver:
        facts["solver"] = counted(model.steps, "step") + f" of {model.solver}"
    if isinstance(model, nn.Module):
        facts["parameters"] = f"{sum(weights.numel() for weights in model.parameters()):,} parameters"
    return facts | {"computed": f"{model.precision} on {model.device}"}


class ClassifierAround(ClassifierBase):
    """A classifier that passes images on to another one, whose facts are its own.

    Args:
        model: classifier inside.
    """

    def __init__(self, model: RandomClassifier) -> None:
        self.model = model
        #: name, noise and noise scale in tables
        self.name, self.noise, self.sigma = model.name, model.noise, model.sigma
        self.image_shape, self.classes, self.precision = model.image_shape, model.classes, model.precision

    @property
    def device(self) -> torch.device:
        """Device on which images must be."""
        return self.model.device

    @property
    def solver(self) -> str:
        """Solver of the classifier inside; empty without one."""
        return self.model.solver

    @property
    def steps(self) -> int:
        """Number of steps of the solver inside; 0 without one."""
        return self.model.steps

    @property
    def batch_dependence(self) -> float:
        """Change that other images would make to logits inside (`Interface`); NaN: none."""
        return self.model.batch_dependence


def innermost(model: RandomClassifier) -> RandomClassifier:
    """Return the classifier inside all that only pass images on to another one."""
    while isinstance(model, ClassifierAround):
        model = model.model
    return model
