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
    """The smallest L2 change by projected Adam, with a binary search over the trade-off constant c.

    Not in tanh space: there a black or white pixel has no gradient and stays what it is, and distances on
    digits are an eighth longer. Projection is the paper's first way to stay in the box (section V-B).

    On a random model one lucky draw says nothing. A point is a candidate where the margin of the mean
    probability is below zero by `z` standard errors; the closest candidate of each search round has to
    repeat that on fresh draws before the search believes it. Images without a
    confirmed point keep the one that came nearest to the other side.

    With `eps`, what lies outside the ball is moved into it.
    """

    name = "cw"
    norms = ("l2",)
    minimal = True

    #: Adam steps in each round of the binary search
    steps: AtLeastOne = 100
    #: rounds of that search, over the constant c
    binary_search_steps: AtLeastOne = 5
    #: first step size of Adam, in units of images
    learning_rate: Positive = 1e-2
    #: c in the first round
    initial_constant: Positive = 1e-1
    #: logit margin that a candidate has to exceed
    confidence: NotNegative = 0.0
    #: standard errors below zero that the mean margin has to be
    z: NotNegative = 2.0
    #: fresh draws that confirm a candidate
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
            candidate = self._descend(victim, images, origin, search.constant, first_step)
            confirmed = victim.look(candidate.images, first_step + self.steps + 1, draws=self.confirm)
            search.update(candidate, candidate.found & confirmed.fooled(self.z), confirmed.margin)
        result = search.best.images
        return result if self.budget is None else self.budget.project(images, result)

    def _descend(
        self, victim: Victim, images: Tensor, origin: Tensor, constant: Tensor, first_step: int
    ) -> Nearest:
        """One round: Adam on |x - image|^2 + c max(margin + confidence, 0) from `origin`."""
        adam = _Adam(origin)
        candidate = Nearest(images)
        for step in range(self.steps + 1):
            x = adam.point
            last = step == self.steps
            if last:
                look = victim.look(x, first_step + step)
            else:
                look, gradient = victim.gradient(x, first_step + step, margin_loss)
            fooled = look.fooled(self.z) & (look.margin < -self.confidence)
            candidate.update(x, NORMS["l2"].size(x - images), look.margin, fooled)
            if last:
                break
            # margin_loss rises towards the other side: descend on its negative
            unsettled = look.margin > -self.confidence - self.z * look.error
            pull = 2 * (x - images) - per_image(constant * unsettled) * gradient
            adam.step(pull, self._rate(step))
        return candidate

    def _rate(self, step: int) -> float:
        """Half a cosine from the first rate to a hundredth of it: far at first, exact in the end."""
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
        """One step of size `rate` downhill, and back into the box."""
        self.count += 1
        self.first = self.first.lerp(gradient, 0.1)
        self.second = self.second.lerp(gradient.square(), 0.001)
        mean = self.first / (1 - 0.9**self.count)
        scale = (self.second / (1 - 0.999**self.count)).sqrt() + 1e-8
        self.point = (self.point - rate * mean / scale).clamp(0, 1)


class _Search:
    """Binary search over c for each image, and the best that it has confirmed."""

    def __init__(self, images: Tensor, initial: float) -> None:
        self.best = Nearest(images)
        self.constant = torch.full((len(images),), initial, device=images.device)
        self._low = torch.zeros_like(self.constant)
        self._high = torch.full_like(self.constant, math.inf)

    def update(self, candidate: Nearest, confirmed: Tensor, margin: Tensor) -> None:
        """Learn from one round: c falls where it was enough and rises tenfold until it is."""
        self.best.update(candidate.images, candidate.distance, margin, confirmed)
        self._high = torch.where(confirmed, self.constant.minimum(self._high), self._high)
        self._low = torch.where(confirmed, self._low, self.constant.maximum(self._low))
        middle = (self._low + self._high) / 2
        self.constant = torch.where(self._high.isfinite(), middle, self.constant * 10)
