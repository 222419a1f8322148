"""Carlini's test of a randomised defence: what is left of it once its randomness is known?"""

from dataclasses import dataclass

from robustbench_sde.errors import BenchError
from robustbench_sde.models.fixed_path import FixedPath
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.apgd import APGDCrossEntropy


@dataclass(frozen=True, kw_only=True)
class FixedPathAttack(APGDCrossEntropy):
    """A diagnostic: the defender uses one noise path and the attacker knows it (apgd-ce on that path).

    Images are attacked and scored with exactly this draw of the `audit` stream, so the row has one score
    draw; it says nothing about the defence with its noise on.
    """

    name = "fixed-path"

    #: index of the path in the `audit` stream
    draw: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draw < 0:
            raise BenchError(f"draw is {self.draw}; it must not be negative")

    def crafted_on(self, model: RandomClassifier) -> RandomClassifier:
        return FixedPath(model, self.draw)

    def defender(self, model: RandomClassifier) -> RandomClassifier:
        return FixedPath(model, self.draw)
