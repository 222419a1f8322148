"""The L2 attack of Carlini & Wagner (IEEE S&P 2017), judged by the mean margin over draws."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import SingleAttack
from robustbench_sde.perturbations.attacks.best import MeanPoint, Nearest
from robustbench_sde.perturbations.attacks.fmn import FastMinimumNorm
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative, Positive
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.losses import margin_loss
from robustbench_sde.perturbations.attacks.ray import Ray
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim
from robustbench_sde.perturbations.norms import NORMS, per_image
from robustbench_sde.sde.draws import KeyedRandom


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(SingleAttack):
    """The smallest L2 perturbation by projected Adam, from where a walk to the boundary ends.

    The attack does not use tanh space: there a black or white pixel has no gradient and never changes, and
    distances on digits are an eighth longer. Projection is the first method of the paper to stay in [0, 1]
    (section V-B).

    In place of the first round, fmn walks to the boundary in half of `steps`: on a random model without its
    noise, one pass a step. The nearest point on the ray to where it ends is then found on many draws. A round
    of Adam from there takes a fifth of `steps`, with half as much again as the constant c that balances both
    terms at that point, and ends with such a ray, too. An image leaves once a round has brought it nearer by
    less than 1 %. Images that the walk did not bring across, and all images if the noise of a model cannot be
    switched off, begin at the clean image with all steps, and c grows tenfold until a point is found.

    On a random model one lucky draw proves nothing. A point is a candidate if the margin of the mean
    probability is below zero by `z` standard errors. The point on its ray must satisfy this again on fresh
    draws before it is accepted. Images without an accepted point keep the point of smallest margin.

    With `eps`, points outside the ball are projected into it.

    Where the gradient at the image says that the right constant lies far from the first one (logits thousands
    of times smaller or tens of times larger than usual), the search begins within ten times of the right one.
    """

    name = "cw"
    revision = 3  # 1 took one first constant for logits of every size; 2 began all rounds at the image
    norms = ("l2",)
    minimal = True

    #: number of Adam steps in each round from the clean image; the walk to the boundary takes half as many, a
    #: round from an accepted point a fifth
    steps: AtLeastOne = 100
    #: largest number of rounds, the walk included; of one round it is none
    binary_search_steps: AtLeastOne = 5
    #: first step size of Adam, for images in [0, 1]
    learning_rate: Positive = 1e-2
    #: value of c in the first round from the clean image
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
        search = _Search(self, victim, images)
        guide = victim.without_noise() if victim.stochastic else victim
        guided = guide is not None and self.binary_search_steps > 1
        if guide is not None and guided:  # in place of the first round
            attack = FastMinimumNorm(norm="l2", steps=max(1, self.steps // 2), z=self.z, confirm=self.confirm)
            search.begin_at(attack.run(guide, images, start, restart))
        for round_ in range(guided, self.binary_search_steps):
            search.round(round_, origin)
        result = search.best.images
        return result if self.budget is None else self.budget.project(images, result)

    def descend(self, victim: Victim, images: Tensor, way: "_Way", first: int) -> tuple[Nearest, Tensor]:
        """Run one round: Adam on |x - image|^2 + c max(margin + confidence, 0).

        Args:
            victim: the model.
            images: (B, C, H, W) clean images.
            way: where the round begins, its steps and the constant c.
            first: step whose draws the first gradient uses.

        Returns:
            The closest candidates, and the mean of the points (B, C, H, W) in the second half of the round.
        """
        adam, candidate = _Adam(way.origin), Nearest(images)
        mean = MeanPoint(images, way.steps)
        constant = torch.zeros_like(candidate.distance)
        for step in range(way.steps + 1):
            x = adam.point
            last = step == way.steps
            if last:
                look = victim.look(x, first + step)
            else:
                look, gradient = victim.gradient(x, first + step, margin_loss)
            size = NORMS["l2"].size(x - images)
            fooled = look.fooled(self.z) & (look.margin < -self.confidence)
            candidate.update(x, size, look.margin, fooled)
            mean.add(x, step)
            if last:
                break
            if step == 0:
                constant = way.constant(look.margin, size, gradient)
            # margin_loss rises towards the other side: descend on its negative
            unsettled = look.margin > -self.confidence - self.z * look.error
            pull = 2 * (x - images) - per_image(constant * unsettled) * gradient
            adam.step(pull, way.rate * self._rate(step / way.steps))
        return candidate, mean.point

    def _rate(self, share: float) -> float:
        """Return the step size after a share of a round: half a cosine from the first to its hundredth."""
        return self.learning_rate * (0.505 + 0.495 * math.cos(math.pi * share))


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


#: Share of the steps, and of the first step size, of a round that begins at an accepted point.
_SHORT = 0.2
#: Share by which a round must bring an image nearer, or else it leaves.
_GAIN = 0.01
#: A search that would have to raise (lower) its first constant by more than this begins elsewhere.
_FAR_UP, _FAR_DOWN = 1000, 30


@dataclass(frozen=True)
class _Way:
    """How a round runs."""

    #: (B, C, H, W) first points
    origin: Tensor
    steps: int
    #: factor of all step sizes
    rate: float
    #: function of margin, distance (B,) and gradient at the first points that gives the constants c, (B,)
    constant: Callable[[Tensor, Tensor, Tensor], Tensor]


class _Search:
    """The search of each image: its constant c, the best that is confirmed, and whether it goes on."""

    def __init__(self, attack: CarliniWagner, victim: Victim, images: Tensor) -> None:
        self.best = Nearest(images)
        self.constant = torch.full((len(images),), attack.initial_constant, device=images.device)
        self._attack, self._victim, self._images = attack, victim, images
        self._ray = Ray(NORMS["l2"], attack.z, attack.confirm, attack.confidence)
        self._raised = torch.ones_like(self.constant)
        self._begun = torch.zeros_like(self.constant, dtype=torch.bool)
        look = victim.look(images, 0)
        judge = partial(Look.fooled, z=attack.z)
        wrong = victim.confirmed(images, look, 1, judge, attack.confirm) & (look.margin < -attack.confidence)
        self._ahead = look.margin.clamp_min(0)
        self.best.update(images, torch.zeros_like(look.margin), look.margin, wrong)
        self._active = ~wrong

    def begin_at(self, points: Tensor) -> None:
        """Begin with the nearest points on the rays through given points (B, C, H, W)."""
        rows = self._active.nonzero()[:, 0]
        if len(rows):
            first = 1 + self._victim.steps_of(self._attack.confirm)
            self._settle(rows, points[rows], first)

    def round(self, round_: int, origin: Tensor) -> None:
        """Run a round of Adam for each image that goes on: short from its best point, else from `origin`."""
        attack, victim = self._attack, self._victim
        first = 1 + victim.steps_of(attack.confirm) + self._ray.steps(victim)
        first += round_ * (attack.steps + 1 + self._ray.steps(victim))
        short = math.ceil(_SHORT * attack.steps)
        for rows in (self._active & self.best.found, self._active & ~self.best.found):
            at = rows.nonzero()[:, 0]
            if not len(at):
                continue
            warm = bool(self.best.found[at[0]])
            if warm:
                way = _Way(self.best.images[at], short, _SHORT, partial(self._balanced, at))
            else:
                way = _Way(origin[at], attack.steps, 1.0, partial(self._reachable, at))
            candidate, mean = attack.descend(victim.only(at), self._images[at], way, first)
            before = self.best.distance[at]
            if not warm:
                self.best.update(candidate.images, candidate.distance, candidate.margin, at < 0, at)
            found = candidate.found.nonzero()[:, 0]
            if len(found):  # the mean has less of the error of single gradients
                points = mean if warm and victim.stochastic else candidate.images
                self._settle(at[found], points[found], first + attack.steps + 1)
            if warm:
                still = candidate.found & (self.best.distance[at] > (1 - _GAIN) * before)
                self._active[at[still]] = False
                self._raised[at[~candidate.found]] *= 3
            else:
                self.constant[at] *= torch.where(self.best.found[at], 1.0, 10.0)

    def _settle(self, rows: Tensor, points: Tensor, first: int) -> None:
        ahead, nearest = self._ahead[rows], self.best.distance[rows]
        found = self._ray.settle(
            self._victim.only(rows), self._images[rows], points, first, ahead=ahead, nearest=nearest
        )
        self.best.update(found.images, found.distance, found.margin, found.found, rows)

    def _balanced(self, rows: Tensor, margin: Tensor, size: Tensor, gradient: Tensor) -> Tensor:
        """Return half as much again as balances both terms on the boundary: 2 size / |gradient|."""
        slope = NORMS["l2"].size(gradient).clamp_min(1e-30)
        return 1.5 * self._raised[rows] * 2 * size / slope

    def _reachable(self, rows: Tensor, margin: Tensor, size: Tensor, gradient: Tensor) -> Tensor:
        """Move the first constant of images for which the search could not reach the right one; once.

        On a linear model the smallest perturbation is margin / |gradient| long, and both terms are in
        balance there at c = 2 margin / |gradient|^2.
        """
        now = self.constant[rows]
        right = 2 * margin / NORMS["l2"].size(gradient).square()
        low = right.isfinite() & (right > _FAR_UP * now)
        high = (right > 0) & (_FAR_DOWN * right < now)
        moved = torch.where(low, right / 10, torch.where(high, right * 10, now))
        self.constant[rows] = torch.where(self._begun[rows], now, moved)
        self._begun[rows] = True
        return self.constant[rows]
