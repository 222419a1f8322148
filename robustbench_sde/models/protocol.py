"""Define the interface that an evaluation asks of a classifier, whoever wrote it.

`models.base.ClassifierBase` answers all that only some classifiers can do: none of it, until a subclass says
otherwise.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from robustbench_sde.sde.draws import Draws
from robustbench_sde.sde.integrate import Equation

if TYPE_CHECKING:
    from robustbench_sde.models.classifier import Classifier


class RandomClassifier(Protocol):
    """A classifier whose forward pass is a function of the image and a keyed draw."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def noise(self) -> str:
        """Diffusion term, `none`, or `opaque` where the noise is not ours."""

    @property
    def sigma(self) -> float:
        """Noise scale at test time; NaN where unknown."""

    @property
    def stochastic(self) -> bool:
        """False where every draw gives the same logits: one forward pass is then enough."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) that it takes."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def precision(self) -> str:
        """Precision of convolutions and linear maps: `fp32` or `bf16`."""

    @property
    def device(self) -> torch.device:
        """Device that images must be on."""

    def logits(self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws) -> Tensor:
        """Logits (draws, images, classes) of float images (B, C, H, W) in [0, 1].

        Row (k, b) depends on nothing but image b, its id and draw k.
        """

    # what only some can do

    @property
    def solver(self) -> str:
        """Name of its solver; empty without one."""

    @property
    def steps(self) -> int:
        """Number of steps of its solver; 0 without one."""

    @property
    def batch_dependence(self) -> float:
        """Change that other images of a batch would make to logits, relative to the largest; NaN: none."""

    @property
    def draws_in_pairs(self) -> bool:
        """Whether draws 2j and 2j + 1 may mirror each other, so that statistics have to count pairs."""

    @property
    def images_by_draw(self) -> bool:
        """Whether `logits` also takes images that differ from draw to draw, (draws, B, C, H, W)."""

    @property
    def network(self) -> nn.Module | None:
        """Network inside, at whose parameters other libraries look for the device; None: it has none."""

    @property
    def built_in(self) -> "Classifier | None":
        """Network of this package inside, whose flow can be looked into; None for any other."""

    def chains(
        self, images: Tensor, image_ids: Sequence[int] | Tensor, draws: Draws
    ) -> list[tuple[Tensor, list[Equation]]]:
        """Starts and equations of a pass, as `Classifier.chains`; none unless `built_in`."""

    def without_noise(self) -> "RandomClassifier | None":
        """Make a classifier with its noise switched off; None if that is impossible."""

    def with_solver(
        self, *, solver: str | None = None, steps: int | None = None
    ) -> "RandomClassifier | None":
        """Make a classifier with another solver or number of steps; None if its solver cannot be changed.

        Raises:
            BenchError: the solver does not take the noise of the classifier.
        """
