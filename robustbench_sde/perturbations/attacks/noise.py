"""Random noise of the size of an attack: the control that every attack has to beat, and a measure of its own.

A single row says what random perturbations do: with `samples` it has the probability that one leaves the
prediction right (probabilistic robustness).
"""

import math
from dataclasses import dataclass, fields

from torch import Tensor

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import BudgetAttack
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, Count
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.perturbations.random_points import RandomlyPerturbed
from robustbench_sde.sde.draws import KeyedRandom, Stream

#: laws of the random points
_LAWS = ("uniform", "gaussian")


@dataclass(frozen=True, kw_only=True)
class Noise(BudgetAttack):
    """Uniformly random points of the ball, the worst of `restarts`; the points ignore the model.

    With `samples` nothing is chosen: each image is scored at so many random points, each with a draw of the
    model's own noise. The row has the mean probability that a random point leaves the prediction right, and
    the share of images for which it is .9, .95 and .99 or more (docs/protocol.md). Source: the probability
    and its laws are those of PRBench (Zhang et al., KDD 2026).
    """

    name = "noise"
    gradients = False

    #: number of random points
    restarts: AtLeastOne = 10
    #: number of random points of each image at which it is scored; 0: the worst of `restarts` is scored
    samples: Count = 0
    #: law of these points: `uniform` in the ball, or `gaussian`, which are normal numbers of deviation eps
    #: (`linf`) or root mean square length eps (`l2`), moved to the edge of the ball if they leave it
    law: str = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.law not in _LAWS:
            raise unknown_name("law of noise", self.law, _LAWS)
        if self.law != "uniform" and not self.samples:
            raise BenchError(f"noise with the law {self.law} needs a number of `samples`")
        if self.samples:
            object.__setattr__(self, "restarts", 1)  # no point is chosen

    def __repr__(self) -> str:
        """Leave out what earlier versions did not know, so that the keys of their cells stay."""
        shown = [field.name for field in fields(self) if self.samples or field.name not in ("samples", "law")]
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @property
    def label(self) -> str:
        return self.name if self.law == "uniform" else f"{self.name} {self.law}"

    @property
    def random_points(self) -> int:
        return self.samples

    def scored_at_random(self, stochastic: bool) -> bool:
        return stochastic or self.samples > 0

    def defender(self, model: RandomClassifier) -> RandomClassifier:
        assert self.budget is not None  # checked when the attack was made
        return RandomlyPerturbed(model, self.budget, self.point) if self.samples else model

    def draws_per_look(self, model: RandomClassifier) -> int:
        return 0

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        if self.samples:  # the first of the points at which the image is scored
            return self.point(images, victim.ids, start.seed, 0)
        return ball.random(start, victim.ids, images, draw=restart)

    def point(self, images: Tensor, image_ids: Tensor, seed: int, draw: int) -> Tensor:
        """Return a random point around each image, in its ball and in [0, 1]: (B, C, H, W) as `images`.

        Args:
            images: (B, C, H, W) clean images in [0, 1].
            image_ids: (B,) int64 keys of the randomness, on the CPU.
            seed: seed of all randomness.
            draw: number of the point.
        """
        ball = self.budget
        assert ball is not None  # checked when the attack was made
        keyed = KeyedRandom(seed, Stream.SCORE, f"noise/{self.law}/{self.norm}")
        shape = images.shape[1:]
        if self.law == "gaussian":
            normals = keyed.normals(image_ids, shape, draw=draw).to(images)
            scale = ball.eps if self.norm == "linf" else ball.eps / math.sqrt(math.prod(shape))
            return ball.project(images, images + scale * normals)
        if self.norm == "linf":  # uniform in the part of the ball that holds images
            low, high = (images - ball.eps).clamp_min(0), (images + ball.eps).clamp_max(1)
            return low + (high - low) * keyed.uniforms(image_ids, shape, draw=draw).to(images)
        return ball.random(keyed, image_ids, images, draw=draw)
