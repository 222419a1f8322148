"""Carlini's test of a randomised defence: the accuracy if the attacker knows the random numbers."""

from dataclasses import dataclass

from robustbench_sde.models.fixed_path import FixedPath
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.apgd import APGDCrossEntropy
from robustbench_sde.perturbations.attacks.limits import Index


@dataclass(frozen=True, kw_only=True)
class FixedPathAttack(APGDCrossEntropy):
    """A diagnostic: the defender always uses one noise path, and the attack knows it (apgd-ce on this path).

    Images are attacked and scored with exactly this draw of the `audit` stream, so the row has one score
    draw. The row says nothing about the defence with fresh noise.
    """

    name = "fixed-path"

    #: index of the path in the `audit` stream
    draw: Index = 0

    def crafted_on(self, model: RandomClassifier) -> RandomClassifier:
        return FixedPath(model, self.draw)

    def scored_at_random(self, stochastic: bool) -> bool:
        return False

    def defender(self, model: RandomClassifier) -> RandomClassifier:
        return FixedPath(model, self.draw)
