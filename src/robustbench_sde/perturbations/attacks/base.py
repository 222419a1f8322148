"""What every attack is: a norm, a budget, draws and restarts around one update rule."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.probabilities import log_mean, log_probabilities, split_label
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch, Perturbation, Perturbed
from robustbench_sde.perturbations.norms import Ball, get_norm
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream


@dataclass(frozen=True, kw_only=True)
class Attack(Perturbation):
    """An attack on the expected decision of a random classifier.

    Subclasses write `run`. Restarts are independent runs; the worst point of each image over them is
    picked on the `select` stream, which neither the attack nor the scoring sees (DESIGN, invariant 3).
    """

    #: norms that the attack can use, the default first
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    #: whether it looks for the smallest perturbation, which `eps` only caps; its `steps` are its own
    minimal: ClassVar[bool] = False

    norm: str = ""
    #: budget, in units of images in [0, 1]; None for the smallest perturbation that an attack can find
    eps: float | None = None
    #: gradient steps
    steps: int = 20
    #: fresh draws averaged in every gradient
    eot_draws: int = 8
    restarts: int = 1
    #: draws that choose among restarts
    select_draws: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", self.norm or self.norms[0])
        get_norm(self.norm)
        if self.norm not in self.norms:
            raise BenchError(f"{self.name} has no norm {self.norm}; it takes {' or '.join(self.norms)}")
        largest = 1.0 if self.norm == "linf" else 1e4
        if self.eps is not None and not 0 <= self.eps <= largest:
            raise BenchError(f"eps is {self.eps}; for {self.norm} it must be between 0 and {largest:g}")
        for field in ("steps", "eot_draws", "restarts", "select_draws"):
            if getattr(self, field) < 1:
                raise BenchError(f"{field} is {getattr(self, field)}; it must be at least 1")

    def __str__(self) -> str:
        budget = "" if self.eps is None else f" {self.eps:g}"
        return f"{self.name} {self.norm}{budget}"

    def describe(self) -> dict[str, str | float]:
        eps = math.nan if self.eps is None else self.eps
        return {"perturbation": self.name, "norm": self.norm, "eps": eps}

    @property
    def budget(self) -> Ball | None:
        return None if self.eps is None else Ball(get_norm(self.norm), self.eps)

    def draws_per_pass(self, stochastic: bool) -> int:
        return self.eot_draws if stochastic else 1

    @abstractmethod
    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        """Perturbed images (B, C, H, W) of one restart.

        Args:
            victim: the model: gradients and margins on `attack` draws.
            images: (B, C, H, W) clean images.
            start: randomness of the attack itself, keyed by image id; pass `draw=restart`.
            restart: which one, from 0.
        """

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        start = KeyedRandom(seed, Stream.ATTACK, f"start/{self.name}")
        worst, worst_margin = batch.images, torch.full((len(batch),), math.inf, device=batch.images.device)
        forward = torch.zeros(len(batch), dtype=torch.int64)
        backward = torch.zeros(len(batch), dtype=torch.int64)
        for restart in range(self.restarts):
            victim = Victim(model, batch, seed=seed, eot_draws=self.eot_draws, restart=restart)
            images = self.run(victim, batch.images, start, restart).detach()
            forward, backward = forward + victim.forward_passes, backward + victim.backward_passes
            if self.restarts == 1:
                worst = images
                break
            draws = Draws(seed, Stream.SELECT, range(self.select_draws))
            margin = self._select_margin(model, batch, images, draws, rows)
            forward += self.select_draws if model.stochastic else 1
            worse = margin < worst_margin
            worst = torch.where(worse.view(-1, 1, 1, 1), images, worst)
            worst_margin = torch.where(worse, margin, worst_margin)
        return Perturbed(worst, forward, backward)

    @staticmethod
    def _select_margin(
        model: RandomClassifier, batch: Batch, images: Tensor, draws: Draws, rows: int
    ) -> Tensor:
        log_probs = log_mean(log_probabilities(model, images, batch.ids, draws, rows=rows))
        at_label, largest, _ = split_label(log_probs, batch.labels)
        return at_label - largest


@dataclass(frozen=True)
class Control(Perturbation):
    """An attack with nothing to spend: one step at eps 0. Its table row must equal the clean one."""

    name = "control"

    attack: Attack

    def describe(self) -> dict[str, str | float]:
        return {"perturbation": self.name, "norm": self.attack.norm, "eps": 0.0}

    @property
    def budget(self) -> Ball | None:
        return Ball(get_norm(self.attack.norm), 0.0)

    def draws_per_pass(self, stochastic: bool) -> int:
        return self.attack.draws_per_pass(stochastic)

    def _perturb(self, model: RandomClassifier, batch: Batch, *, seed: int, rows: int) -> Perturbed:
        powerless = replace(self.attack, eps=0.0, steps=1, restarts=1)
        return powerless._perturb(model, batch, seed=seed, rows=rows)


class Best:
    """The point with the smallest margin so far, for each image."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.margin = torch.full((len(images),), math.inf, device=images.device)

    def update(self, images: Tensor, margin: Tensor) -> None:
        """Keep `images` where their margin is smaller."""
        better = margin < self.margin
        self.images = torch.where(better.view(-1, 1, 1, 1), images, self.images)
        self.margin = torch.where(better, margin, self.margin)


class BudgetAttack(Attack):
    """An attack that lives in a ball of given size."""

    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        assert self.budget is not None  # checked when the attack was made
        return self.run_in(self.budget, victim, images, start, restart)

    def __post_init__(self) -> None:
        if self.eps is None:
            raise BenchError(f"{self.name} needs a budget: give --eps")
        super().__post_init__()

    @abstractmethod
    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        """As `run`, within `ball`."""
