"""Ensemble of attacks, which should be at least as strong as every single attack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.apgd import APGDCrossEntropy, APGDTargeted
from robustbench_sde.perturbations.attacks.base import Attack, SingleAttack
from robustbench_sde.perturbations.attacks.fmn import FastMinimumNorm
from robustbench_sde.perturbations.attacks.limits import AtLeastOne, NotNegative
from robustbench_sde.perturbations.attacks.opening import OPENING_STEPS, Opening, ToTheEnd
from robustbench_sde.perturbations.attacks.pgd import PGD
from robustbench_sde.perturbations.attacks.square import Square

#: A gradient attack that a budget gives fewer steps than these does not run.
_FEWEST_STEPS = 10
#: `square` does not run with fewer queries than these.
_FEWEST_QUERIES = 50
#: One in so many queries comes first; then an image that gradients moved further leaves square.
_SHARE = 5


@dataclass(frozen=True, kw_only=True)
class Auto(Attack):
    """pgd, apgd-ce, fmn, apgd-targeted and square one after the other; each image keeps its worst point.

    The idea is that of Croce & Hein (ICML 2020). The worst point is selected on the `select` stream, and an
    image leaves once its margin there is below zero by `z` standard errors, so never because of one draw. pgd
    runs first and starts at the image, because it fools easy images in few steps. Where the noise can be
    switched off, eight steps of pgd without it come before that, a pass each, and what falls there is
    confirmed with the noise. An image that will stand leaves as well (see pgd). If the budget of passes gives
    fewer than ten steps to each attack with gradients, the last of them are left out; square needs 50
    queries. It begins with a fifth of its queries, at least 50, and all of them follow where it found a
    worse point so than the gradients did: elsewhere these can be believed.
    """

    name = "auto"
    revision = 1 + FastMinimumNorm.revision + PGD.revision  # less 1 square had all queries everywhere

    #: number of steps of each attack with gradients
    steps: AtLeastOne = 50
    #: number of attacks with gradients that run: the first of pgd, apgd-ce, fmn, apgd-targeted
    depth: AtLeastOne = 4
    #: number of targets of apgd-targeted
    targets: AtLeastOne = 3
    #: number of queries of square for each step of the other attacks
    queries_per_step: AtLeastOne = 10
    #: number of standard errors by which an image must be misclassified before it leaves
    z: NotNegative = 3.0
    #: whether images that certainly fall or stand leave; if not, all images go through all attacks
    settle: bool = True

    def opening(self, model: RandomClassifier) -> Opening | None:
        steps = min(OPENING_STEPS, self.steps)
        afterwards = self.draws_per_look(model) * self.restarts
        if self.passes is not None and self.passes < steps + afterwards:
            return None  # it would leave less than a step to the others
        silent = model.without_noise() if model.stochastic and self.settle else None
        if silent is None:
            return None
        return Opening(silent, ToTheEnd(norm=self.norm, eps=self.eps, steps=steps, random_start=False))

    def capped(self, model: RandomClassifier) -> Self:
        shallow = self
        while (
            self.passes is not None
            and shallow.depth > 1
            and self.passes
            < _FEWEST_STEPS * self.draws_per_look(model) * self.restarts * shallow.gradients_per_step(model)
        ):
            shallow = replace(shallow, depth=shallow.depth - 1)
        return super(Auto, shallow).capped(model)

    def gradients_per_step(self, model: RandomClassifier) -> int:
        members = self.members(model)
        return sum(member.gradients_per_step(model) for member in members if member.gradients)

    def members(self, model: RandomClassifier) -> Sequence[SingleAttack]:
        shared: dict[str, Any] = {"norm": self.norm, "eps": self.eps, "eot_draws": self.eot_draws}
        members: list[SingleAttack] = [
            PGD(**shared, steps=self.steps, random_start=False, settle=self.settle),
            APGDCrossEntropy(**shared, steps=self.steps),
            FastMinimumNorm(**shared, steps=self.steps),
        ]
        if model.classes >= 3:
            members.append(APGDTargeted(**shared, steps=self.steps, targets=self.targets))
        square = [Square(**shared, steps=queries) for queries in self._queries]
        return [*members[: self.depth], *square]

    @property
    def _queries(self) -> list[int]:
        """Queries of each run of square: of a short one and a whole one, of the whole one, or of none."""
        whole = self.steps * self.queries_per_step
        first = max(_FEWEST_QUERIES, whole // _SHARE)
        staged = self.settle and whole >= 2 * first
        return [first, whole] if staged else [whole] if whole >= _FEWEST_QUERIES else []

    def takes(self, member: SingleAttack, best: str) -> bool:
        again = member.name == Square.name and len(self._queries) > 1 and member.steps == self._queries[1]
        return not again or best == Square.name

    def settled(self, margin: Tensor, error: Tensor) -> Tensor:
        return self.settle & (margin + self.z * error < 0)
