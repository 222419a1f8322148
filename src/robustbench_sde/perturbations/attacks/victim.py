"""The model as an attacker sees it: keyed `attack` draws, every pass counted."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.probabilities import log_mean, split_label
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.sde.draws import Draws, Stream

#: (log of the mean probabilities (B, classes), labels (B,)) to a loss (B,) that an attack makes large
Objective = Callable[[Tensor, Tensor], Tensor]

#: Draw indices of one restart; restarts never share a draw.
_DRAWS_PER_RESTART = 2**32


def cross_entropy(log_probs: Tensor, labels: Tensor) -> Tensor:
    """-log of the mean probability of the label: the loss of the mean, not the mean loss."""
    return -split_label(log_probs, labels)[0]


def margin_loss(log_probs: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} log p_j - log p_y of the mean probabilities: for one draw the logit difference."""
    at_label, largest, _ = split_label(log_probs, labels)
    return largest - at_label


@dataclass(frozen=True)
class Aim:
    """What an attack wants of each image: away from a class, or, targeted, towards one."""

    #: (B,) int64 on the model's device: the true class, or the target
    classes: Tensor
    #: (B,) float: 1 to leave the class, -1 to reach it
    sign: Tensor

    @classmethod
    def untargeted(cls, labels: Tensor) -> "Aim":
        """Away from the true class."""
        return cls(labels, torch.ones(len(labels), device=labels.device))

    def only(self, rows: Tensor) -> "Aim":
        """The same for some of the images."""
        return Aim(self.classes[rows], self.sign[rows])

    def margin_and_error(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """How far (draws, B, classes) are from what is wanted, below zero where it is reached: each (B,)."""
        margin, error = margin_and_error(log_probs, self.classes)
        return self.sign * margin, error


@dataclass(frozen=True)
class Look:
    """What one pass over the current images showed: (B,) each where nothing else is said."""

    #: log p_y - max_{j != y} log p_j of the mean probability over the draws: negative where they are fooled.
    #: Of a targeted attack the negative of this at the target: negative where it is reached.
    margin: Tensor
    #: standard error of `margin` over the draws, 0 for a deterministic model (delta method)
    error: Tensor
    #: log of the mean probability over the draws (B, classes): for one draw the logits less a constant
    log_probs: Tensor

    def fooled(self, z: float = 0.0) -> Tensor:
        """Whether the margin is below zero by more than `z` standard errors: (B,) bool."""
        return self.margin + z * self.error < 0


class Victim:
    """Gives an attack gradients and margins over fresh draws, and no access to any other stream.

    Draws belong to a step: step `i` of a restart uses indices i * eot_draws onwards, whatever the batch.
    """

    def __init__(
        self,
        model: RandomClassifier,
        batch: Batch,
        *,
        seed: int,
        eot_draws: int,
        restart: int,
        aim: Aim | None = None,
    ) -> None:
        self._model, self._batch = model, batch
        self._seed, self._first = seed, restart * _DRAWS_PER_RESTART
        self.eot_draws = eot_draws if model.stochastic else 1
        self.forward_passes = torch.zeros(len(batch), dtype=torch.int64)
        self.backward_passes = torch.zeros(len(batch), dtype=torch.int64)
        self._rows = torch.arange(len(batch))
        self._aim = Aim.untargeted(batch.labels) if aim is None else aim

    def only(self, rows: Tensor) -> "Victim":
        """The same for some of the images, the others having left the batch; passes count as before.

        Args:
            rows: (n,) int64 positions in this victim's batch, without repeats. No draw depends on them.
        """
        rows = rows.cpu()
        part = copy.copy(self)
        part._batch, part._rows = self._batch.only(rows), self._rows[rows]
        part._aim = self._aim.only(rows.to(self.labels.device))
        return part

    @property
    def stochastic(self) -> bool:
        """Whether draws differ."""
        return self._model.stochastic

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._model.classes

    @property
    def labels(self) -> Tensor:
        """(B,) true classes."""
        return self._batch.labels

    @property
    def ids(self) -> Tensor:
        """(B,) image ids on the CPU."""
        return self._batch.ids

    def look(self, images: Tensor, step: int, *, draws: int | None = None) -> Look:
        """Margins of all images over the draws of `step`, without gradient.

        Args:
            images: (B, C, H, W) in [0, 1].
            step: decides the draws.
            draws: how many, counted from the first of that step; None is `eot_draws`.
        """
        with torch.no_grad():
            log_probs = self._log_probs(images, step, draws or self.eot_draws)
        return self._look(log_probs)

    def log_probs(self, images: Tensor, step: int, *, draws: int | None = None) -> Tensor:
        """Log of the mean probability over the draws of `step`: (B, classes), for attacks of other libraries.

        Differentiable where `images` ask for it; the backward passes are counted when a gradient arrives.
        """
        draws = draws or self.eot_draws
        log_probs = log_mean(self._log_probs(images, step, draws))
        if log_probs.requires_grad:
            log_probs.register_hook(partial(self._count_backward, draws))
        return log_probs

    def _count_backward(self, draws: int, gradient: Tensor) -> None:
        self.backward_passes[self._rows] += draws if self.stochastic else 1

    def gradient(
        self, images: Tensor, step: int, objective: Objective = cross_entropy
    ) -> tuple[Look, Tensor]:
        """Margins over the draws of `step`, and over the same draws the gradient (B, C, H, W)."""
        images = images.detach().requires_grad_()
        log_probs = self._log_probs(images, step, self.eot_draws)
        loss = (self._aim.sign * objective(log_mean(log_probs), self._aim.classes)).sum()
        gradient = self._at_images(loss, images)
        self.backward_passes[self._rows] += self.eot_draws
        return self._look(log_probs.detach()), gradient

    def gradients_of_draws(self, images: Tensor, step: int, draws: int) -> Tensor:
        """Of each draw by itself its part in the gradient of the cross-entropy: (draws, B, C, H, W).

        Their mean is parallel to the gradient of the log of the mean probability: a draw in which the class
        is improbable has little part in it.
        """
        parts, weights = [], []
        for draw in range(draws):
            images = images.detach().requires_grad_()
            log_probs = self._log_probs(images, step + draw, 1)[0]
            at_class = self._aim.sign * cross_entropy(log_probs, self._aim.classes)
            parts.append(self._at_images(at_class.sum(), images))
            weights.append(-cross_entropy(log_probs, self._aim.classes).detach())
            self.backward_passes[self._rows] += 1
        weight = torch.stack(weights)
        return torch.stack(parts) * (weight - weight.amax(0)).exp()[..., None, None, None]

    def _at_images(self, loss: Tensor, images: Tensor) -> Tensor:
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
        if gradient is None:
            raise BenchError(
                f"no gradient of {self._model.name} reaches the images (detach, no_grad, rounding): use "
                "attacks without gradients, square or noise say"
            )
        return gradient

    def _look(self, log_probs: Tensor) -> Look:
        return Look(*self._aim.margin_and_error(log_probs), log_mean(log_probs))

    def _log_probs(self, images: Tensor, step: int, draws: int) -> Tensor:
        draws = draws if self.stochastic else 1
        first = self._first + step * self.eot_draws
        self.forward_passes[self._rows] += draws
        indices = range(first, first + draws)
        return self._model.logits(images, self.ids, Draws(self._seed, Stream.ATTACK, indices)).log_softmax(-1)


def margin_and_error(log_probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Margin of the log mean probability (draws, B, classes) and its standard error over draws, each (B,)."""
    mean = log_mean(log_probs)
    at_label, largest, runner_up = split_label(mean, labels)
    count = len(log_probs)
    if count == 1:
        return at_label - largest, torch.zeros_like(at_label)
    index = torch.stack((labels, runner_up), 1).expand(count, -1, -1)
    relative = (log_probs.gather(2, index) - torch.stack((at_label, largest), 1)).exp()
    difference = relative[..., 0] - relative[..., 1]
    return at_label - largest, difference.std(0) / math.sqrt(count)
