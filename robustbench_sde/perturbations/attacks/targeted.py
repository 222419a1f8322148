"""Targeted attacks: towards a class instead of away from the true one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.probabilities import log_mean
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import BudgetAttack
from robustbench_sde.perturbations.attacks.looks import Aim
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream

#: Draw indices that look for the least likely class; no restart comes near them.
_FIRST_DRAW = 2**62


@dataclass(frozen=True, kw_only=True)
class Targetable(BudgetAttack):
    """An attack that can aim at a target class.

    Scoring does not change: the accuracy of a targeted row counts images that are still right, so a targeted
    attack is at most as strong as the untargeted one. The row also has the success rate: the share of images
    whose prediction is the target, among images of other classes.
    """

    #: target class: an index, `random` or `least-likely`; empty for an untargeted attack. Images whose true
    #: class is the target are attacked without a target.
    target: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", str(self.target))
        super().__post_init__()
        if self.target not in ("", "random", "least-likely") and not self.target.isdecimal():
            raise BenchError(f"`target` is {self.target!r}; it must be a class index, random or least-likely")

    @property
    def label(self) -> str:
        return f"{self.name} to {self.target}" if self.target else self.name

    @property
    def has_targets(self) -> bool:
        return bool(self.target)

    def aim(self, model: RandomClassifier, batch: Batch, *, seed: int) -> tuple[Aim, int]:
        if not self.target:
            return super().aim(model, batch, seed=seed)
        passes = 0
        if self.target == "random":
            others = KeyedRandom(seed, Stream.ATTACK, "target").uniforms(batch.ids, (1,))[:, 0]
            offset = 1 + (others * (model.classes - 1)).long().to(batch.labels.device)
            targets = (batch.labels + offset) % model.classes
        elif self.target == "least-likely":
            passes = self.eot_draws if model.stochastic else 1
            draws = Draws(seed, Stream.ATTACK, range(_FIRST_DRAW, _FIRST_DRAW + passes))
            targets = _least_likely(model, batch, draws)
        else:
            self.check_classes(model.classes)
            targets = torch.full_like(batch.labels, int(self.target))
        untargeted = targets == batch.labels
        sign = torch.where(untargeted, 1.0, -1.0)
        return Aim(torch.where(untargeted, batch.labels, targets), sign), passes

    def check_classes(self, classes: int) -> None:
        if self.target.isdecimal() and int(self.target) >= classes:
            raise BenchError(f"`target` is {self.target}; the model has classes 0 to {classes - 1}")

    def wanted(self, aim: Aim) -> Tensor | None:
        return aim.classes if self.target else None


def _least_likely(model: RandomClassifier, batch: Batch, draws: Draws) -> Tensor:
    """Return the class of smallest mean probability, (B,)."""
    with torch.no_grad():
        return log_mean(model.logits(batch.images, batch.ids, draws).log_softmax(-1)).argmin(1)
