"""The L2 attack of Carlini & Wagner (IEEE S&P 2017), judged by the mean margin over draws."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import SingleAttack
from robustbench_sde.perturbations.attacks.best import Nearest
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative, Positive
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim, margin_loss
from robustbench_sde.perturbations.norms import NORMS, per_image
from robustbench_sde.sde.draws import KeyedRandom


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(SingleAttack):
    """The smallest L2 perturbation by projected Adam, with a binary search over the trade-off constant c.

    The attack does not use tanh space: there a black or white pixel has no gradient and never changes, and
    distances on digits are an eighth longer. Projection is the first method of the paper to stay in [0, 1]
    (section V-B).

    On a random model one lucky draw proves nothing. A point is a candidate if the margin of the mean
    probability is below zero by `z` standard errors. The closest candidate of each search round must satisfy
    this again on fresh draws before it is accepted. Images without an accepted point keep the point of
    smallest margin.

    With `eps`, points outside the ball are projected into it.

    Where the gradient at the image says that the right constant lies far from the first one (logits thousands
    of times smaller or tens of times larger than usual), the search begins within ten times of the right one.
    """

    name = "cw"
    revision = 2  # 1 took one first constant for logits of every size
    norms = ("l2",)
    minimal = True

    #: number of Adam steps in each round of the binary search
    steps: AtLeastOne = 100
    #: number of rounds of the binary search over the constant c
    binary_search_steps: AtLeastOne = 5
    #: first step size of Adam, for images in [0, 1]
    learning_rate: Positive = 1e-2
    #: value of c in the first round
    initial_constant: Positive = 1e-1
    #: margin of log-probabilities that a candidate must exceed
    confidence: NotNegative = 0.0
    #: number of standard errors by which the mean margin must be below zero
    z: NotNegative = 2.0
    #: number of fresh draws that confirm a candidate
    confirm: AtLeastOne = CONFIRM_DRAWS

    def gradients_per_step(self, model: RandomClassifier) -> int:
        return self.binary_search_steps

    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        origin = images
        if restart:  # the first start is the image itself
            kick = 0.05 * start.normals(victim.ids, images.shape[1:], draw=restart).to(images)
            origin = (images + kick).clamp(0, 1)
        search = _Search(images, self.initial_constant)
        for round_ in range(self.binary_search_steps):
            first_step = round_ * (self.steps + 1 + victim.steps_of(self.confirm))
            candidate = self._descend(victim, images, origin, search, first_step)
            confirmed = victim.look(candidate.images, first_step + self.steps + 1, draws=self.confirm)
            search.update(candidate, candidate.found & confirmed.fooled(self.z), confirmed.margin)
        result = search.best.images
        return result if self.budget is None else self.budget.project(images, result)

    def _descend(
        self, victim: Victim, images: Tensor, origin: Tensor, search: "_Search", first_step: int
    ) -> Nearest:
        """Run one round: Adam on |x - image|^2 + c max(margin + confidence, 0) from `origin`."""
        adam = _Adam(origin)
        candidate = Nearest(images)
        for step in range(self.steps + 1):
            x = adam.point
            last = step == self.steps
            if last:
                look = victim.look(x, first_step + step)
            else:
                look, gradient = victim.gradient(x, first_step + step, margin_loss)
                search.begin(look.margin, gradient)
            fooled = look.fooled(self.z) & (look.margin < -self.confidence)
            candidate.update(x, NORMS["l2"].size(x - images), look.margin, fooled)
            if last:
                break
            # margin_loss rises towards the other side: descend on its negative
            unsettled = look.margin > -self.confidence - self.z * look.error
            pull = 2 * (x - images) - per_image(search.constant * unsettled) * gradient
            adam.step(pull, self._rate(step))
        return candidate

    def _rate(self, step: int) -> float:
        """Return the step size: half a cosine from the first rate down to a hundredth of it."""
        return self.learning_rate * (0.505 + 0.495 * math.cos(math.pi * step / self.steps))


@dataclass
class _Adam:
    """Projected Adam (Kingma & Ba 2015) with its usual constants; per entry, so images do not mix."""

    point: Tensor
    count: int = 0
    first: Tensor = field(init=False)
    second: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.first = torch.zeros_like(self.point)
        self.second = torch.zeros_like(self.point)

    def step(self, gradient: Tensor, rate: float) -> None:
        """Return the point after one descent step of size `rate`, projected into [0, 1]."""
        self.count += 1
        self.first = self.first.lerp(gradient, 0.1)
        self.second = self.second.lerp(gradient.square(), 0.001)
        mean = self.first / (1 - 0.9**self.count)
        scale = (self.second / (1 - 0.999**self.count)).sqrt() + 1e-8
        self.point = (self.point - rate * mean / scale).clamp(0, 1)


#: A search that would have to raise (lower) its first constant by more than this begins elsewhere.
_FAR_UP, _FAR_DOWN = 1000, 30


class _Search:
    """Binary search over c for each image, and the best that it has confirmed."""

    def __init__(self, images: Tensor, initial: float) -> None:
        self.best = Nearest(images)
        self._begun = False
        self.constant = torch.full((len(images),), initial, device=images.device)
        self._low = torch.zeros_like(self.constant)
        self._high = torch.full_like(self.constant, math.inf)

    def begin(self, margin: Tensor, gradient: Tensor) -> None:
        """Move the first constant of images for which the search could not reach the right one; once.

        On a linear model the smallest perturbation is margin / |gradient| long, and both terms are in
        balance there at c = 2 margin / |gradient|^2.
        """
        if self._begun:
            return
        self._begun = True
        right = 2 * margin / NORMS["l2"].size(gradient).square()
        low = right.isfinite() & (right > _FAR_UP * self.constant)
        high = (right > 0) & (_FAR_DOWN * right < self.constant)
        self.constant = torch.where(low, right / 10, torch.where(high, right * 10, self.constant))

    def update(self, candidate: Nearest, confirmed: Tensor, margin: Tensor) -> None:
        """Update c after one round: smaller after a success, else ten times as large until the first one."""
        self.best.update(candidate.images, candidate.distance, margin, confirmed)
        self._high = torch.where(confirmed, self.constant.minimum(self._high), self._high)
        self._low = torch.where(confirmed, self._low, self.constant.maximum(self._low))
        middle = (self._low + self._high) / 2
        self.constant = torch.where(self._high.isfinite(), middle, self.constant * 10)
