"""Auto-PGD (Croce & Hein, ICML 2020) through the noise.

The schedule is the published one. The difference on a random model is how points are compared: a best
point, a step size and a restart from the best point are decided by the mean over the draws of a step, and
the best point so far is evaluated again on the draws of the new point, so that no lucky draw is remembered.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.probabilities import split_label
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import BudgetAttack
from robustbench_sde.perturbations.attacks.best import Lowest
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.losses import Objective, cross_entropy
from robustbench_sde.perturbations.attacks.targeted import Targetable
from robustbench_sde.perturbations.attacks.victim import CONFIRM_DRAWS, Victim
from robustbench_sde.perturbations.norms import Ball, per_image
from robustbench_sde.sde.draws import KeyedRandom

#: Function of an evaluation that the attack minimises, (B,): the margin, or the margin to a target.
Judge = Callable[[Look], Tensor]

#: share of a step that goes along the new direction, the rest along the last movement
_MOMENTUM = 0.75
#: share of the steps of a period that have to make progress for the step size to stay
_PROGRESS = 0.75


def dlr(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio -(z_y - max_{j != y} z_j) / (z_(1) - z_(3)), (B,)."""
    at_label, largest, _ = split_label(log_probs, labels)
    ranked = log_probs.topk(3, dim=1).values
    return (largest - at_label) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def targeted_dlr(log_probs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2), (B,); three classes have no z_(4)."""
    ranked = log_probs.topk(min(4, log_probs.shape[1]), dim=1).values
    spread = ranked[:, 0] - (ranked[:, 2] + ranked[:, -1]) / 2
    return -_lead(log_probs, labels, targets) / (spread + 1e-12)


def _lead(log_probs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of the label less that of the target, (B,)."""
    pair = log_probs.gather(1, torch.stack((labels, targets), 1))
    return pair[:, 0] - pair[:, 1]


def _margin(look: Look) -> Tensor:
    return look.margin


def checkpoints(steps: int) -> list[int]:
    """Return the steps after which the step size may be halved: .22 N, then shorter periods.

    Each period is .03 N shorter than the one before, but not shorter than .06 N.
    """
    shares = [0, 22]  # in hundredths, so that nothing is rounded
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    return sorted({-(-share * steps // 100) for share in shares[1:] if share <= 100})


class _Descent:
    """State of Auto-PGD for a batch: where it is, where it was, its best point and its step size."""

    def __init__(
        self, ball: Ball, victim: Victim, images: Tensor, objective: Objective, judge: Judge
    ) -> None:
        self._ball, self._victim, self._images = ball, victim, images
        self._objective, self._judge = objective, judge

    def run(self, x: Tensor, steps: int, first_step: int) -> Tensor:
        """Return the best point of `steps` gradient steps from `x`, with the draws of `steps + 1` steps."""
        images = self._images
        size = torch.full((len(images),), 2 * self._ball.eps, device=images.device)
        previous, best = x, x
        progress = torch.zeros_like(size)
        improved = torch.zeros_like(size, dtype=torch.bool)
        reduced = torch.ones_like(improved)
        decisions, last_decision = set(checkpoints(steps)), 0
        lowest = last = torch.full_like(size, math.inf)
        gradient = best_gradient = torch.zeros_like(images)
        for step in range(steps + 1):
            if step < steps:
                look, gradient = self._victim.gradient(x, first_step + step, self._objective)
            else:
                look = self._victim.look(x, first_step + step)
            value = self._judge(look)
            if step and self._victim.stochastic:
                # on the draws of the challenger; without noise the stored value is exact
                lowest = self._judge(self._victim.look(best, first_step + step))
            better = value < lowest
            best = torch.where(per_image(better), x, best)
            best_gradient = torch.where(per_image(better), gradient, best_gradient)
            lowest = torch.where(better, value, lowest)
            if step == steps:
                break
            if step:
                improved |= better
                progress += value < last
            last = value
            if step in decisions:
                stuck = progress < _PROGRESS * (step - last_decision)
                halve = stuck | (~reduced & ~improved)
                size = torch.where(halve, size / 2, size)
                # from the best point again, with the direction it had
                x = torch.where(per_image(halve), best, x)
                gradient = torch.where(per_image(halve), best_gradient, gradient)
                last = torch.where(halve, lowest, last)
                reduced, last_decision = halve, step
                progress, improved = torch.zeros_like(progress), torch.zeros_like(improved)
            x, previous = self._step(x, previous, gradient, size, momentum=step > 0), x
        return best

    def _step(self, x: Tensor, previous: Tensor, gradient: Tensor, size: Tensor, *, momentum: bool) -> Tensor:
        forward = self._ball.project(self._images, x + per_image(size) * self._ball.norm.steepest(gradient))
        if not momentum:
            return forward
        mixed = x + _MOMENTUM * (forward - x) + (1 - _MOMENTUM) * (x - previous)
        return self._ball.project(self._images, mixed)


@dataclass(frozen=True, kw_only=True)
class _APGD(Targetable):
    """Auto-PGD with random starts; subclasses choose the loss."""

    steps: AtLeastOne = 50

    @abstractmethod
    def objective(self, victim: Victim) -> Objective:
        """Return the loss that each step increases."""

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        x = ball.random(start, victim.ids, images, draw=restart)
        return _Descent(ball, victim, images, self.objective(victim), _margin).run(x, self.steps, 0)


@dataclass(frozen=True, kw_only=True)
class APGDCrossEntropy(_APGD):
    """Auto-PGD on the cross-entropy of the mean probability."""

    name = "apgd-ce"

    def objective(self, victim: Victim) -> Objective:
        return cross_entropy


@dataclass(frozen=True, kw_only=True)
class APGDDLR(_APGD):
    """Auto-PGD on the difference of logits ratio, which does not saturate; at least 3 classes."""

    name = "apgd-dlr"

    def objective(self, victim: Victim) -> Objective:
        _require_classes(self.name, victim.classes)
        return dlr


@dataclass(frozen=True, kw_only=True)
class APGDTargeted(BudgetAttack):
    """Auto-PGD towards each of the most likely wrong classes in turn; at least 3 classes.

    An image leaves once it is misclassified by `z` standard errors over `confirm` fresh draws.
    """

    name = "apgd-targeted"

    #: number of steps towards each target
    steps: AtLeastOne = 50
    #: number of targets: the most likely wrong classes of the clean image, at most all of them
    targets: AtLeastOne = 9
    #: number of standard errors by which an image must be misclassified before it leaves
    z: NotNegative = 3.0
    #: number of fresh draws that confirm that an image is misclassified
    confirm: AtLeastOne = CONFIRM_DRAWS

    def gradients_per_step(self, model: RandomClassifier) -> int:
        return min(self.targets, model.classes - 1)

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        _require_classes(self.name, victim.classes)
        count = min(self.targets, victim.classes - 1)
        clean = victim.look(images, 0)
        ranked = clean.log_probs.scatter(1, victim.labels[:, None], -torch.inf).topk(count, dim=1).indices
        best = Lowest(images)
        active = torch.arange(len(images), device=images.device)
        for turn in range(count):
            if not len(active):
                break
            first = 1 + turn * (self.steps + 1 + victim.steps_of(self.confirm))
            part, targets = victim.only(active), ranked[active, turn]
            x = ball.random(start, part.ids, images[active], draw=restart * count + turn)
            x = self._towards(targets, ball, part, images[active]).run(x, self.steps, first)
            look = part.look(x, first + self.steps + 1, draws=self.confirm)
            best.update(x, look.margin, active)
            active = active[~look.fooled(self.z)]
        return best.images

    @staticmethod
    def _towards(targets: Tensor, ball: Ball, victim: Victim, images: Tensor) -> _Descent:
        def objective(log_probs: Tensor, labels: Tensor) -> Tensor:
            return targeted_dlr(log_probs, labels, targets)

        def judge(look: Look) -> Tensor:
            return _lead(look.log_probs, victim.labels, targets)

        return _Descent(ball, victim, images, objective, judge)


def _require_classes(name: str, classes: int) -> None:
    if classes < 3:
        raise BenchError(f"{name} needs at least 3 classes, this model has {classes}; use apgd-ce")
