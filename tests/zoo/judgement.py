"""Say of a row whether its number is right, marked, refused or wrong without a mark."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn
from zoo.animals import LEVELS, ZOO, Animal, Around, rounded
from zoo.truth import Linear, stands_linear, stands_rounded, stands_strong

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.statistics import wilson

IMAGES = 40
BUDGETS = {"linf": 0.06, "l2": 1.0}
ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {},
    "apgd-ce": {"steps": 20},
    "apgd-dlr": {"steps": 20},
    "apgd-targeted": {"steps": 5},
    "fmn": {},
    "cw": {"steps": 20, "binary_search_steps": 4, "initial_constant": 1.0},
    "square": {"steps": 100},
    "hopskipjump": {"steps": 3},
    "noise": {"restarts": 5},
    "liu2020": {"steps": 10},
    "foolbox:LinfPGD": {"steps": 10},
    "foolbox:L2DeepFoolAttack": {},
    "auto": {"steps": 10},
}
#: Attacks that have one norm.
ONE_NORM = {"cw": "l2", "liu2020": "l2", "foolbox:LinfPGD": "linf", "foolbox:L2DeepFoolAttack": "l2"}
#: Attacks that must leave hardly more than what no perturbation can fool.
STRONG = ("auto", "apgd-targeted")
HONEST = ZOO[0]


@dataclass(frozen=True)
class Cell:
    """What became of an animal under an attack."""

    #: right, marked, refused or WRONG
    outcome: str
    accuracy: float
    status: str
    #: share of images that the same attack leaves of the honest twin
    twin: float
    #: right robust accuracy: exact, or what a strong attack leaves
    truth: float
    #: whether the number of a marked row lies in its interval all the same
    needless: bool = False


class Zoo:
    """Rows of animals around a linear classifier of 40 digits, each made once."""

    def __init__(self, attacks: Mapping[str, dict[str, Any]] = ATTACKS) -> None:
        self.attacks = attacks
        self.data: ImageDataset = rb.load_dataset("digits", images=IMAGES)
        self._rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self._truths: dict[tuple[str, str], float] = {}

    @cached_property
    def net(self) -> Linear:
        """The network that all are built around."""
        return Linear(rb.load_dataset("digits", split="train")).eval()

    def cells(self, animal: Animal, norm: str, names: Sequence[str]) -> dict[str, Cell]:
        """Judge the rows of those attacks that have this norm, by name of the attack."""
        names = [name for name in names if ONE_NORM.get(name, norm) == norm]
        rows = self.rows(animal.name, animal.around(self.net), norm, names)
        twin = self._twin(animal, norm, names)
        truth = self.truth(animal, norm)
        return {name: self._judge(animal, name, norm, rows[name], twin[name], truth) for name in names}

    def rows(
        self, name: str, module: nn.Module, norm: str, attacks: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Summary rows by attack; of one that is refused, the message as its status and no accuracy."""
        known = self._rows.setdefault((name, norm), {})
        for attack in attacks:
            if attack in known:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what is said before an attack is no mark in its row
                    result = rb.attack(
                        module, self.data, {attack: self.attacks[attack]}, norm=norm, eps=BUDGETS[norm]
                    )
                known[attack] = dict(result.summary.iloc[-1])
            except BenchError as error:
                known[attack] = {"accuracy": math.nan, "status": f"refused: {error}"}
        return known

    def truth(self, animal: Animal, norm: str) -> float:
        """Right robust accuracy of an animal at the budget of a norm."""
        name = animal.name if animal.twin is not None else HONEST.name
        if (name, norm) not in self._truths:
            images, labels = to_float(self.data.images), self.data.labels
            eps = BUDGETS[norm]
            if animal.twin is None:
                stands = stands_linear(self.net, images, labels, norm, eps)
            elif animal.forward is rounded and norm == "linf":
                stands = stands_rounded(self.net, images, labels, eps, LEVELS)
            else:
                twin = Around(self.net, animal.twin)
                stands = stands_strong(animal.around(self.net), twin, images, labels, norm, eps, steps=30)
            self._truths[name, norm] = float(stands.double().mean())
        return self._truths[name, norm]

    def _twin(self, animal: Animal, norm: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        if animal.twin is None:
            return self.rows(HONEST.name, HONEST.around(self.net), norm, names)
        return self.rows(f"twin of {animal.name}", Around(self.net, animal.twin).eval(), norm, names)

    def _judge(
        self,
        animal: Animal,
        attack: str,
        norm: str,
        row: Mapping[str, Any],
        twin: Mapping[str, Any],
        truth: float,
    ) -> Cell:
        accuracy, status = float(row["accuracy"]), str(row["status"])
        limit = wilson(twin["accuracy"], IMAGES).high
        if attack in STRONG:
            limit = min(limit, wilson(truth, IMAGES).high)
        right = accuracy <= limit
        if animal.decides_as_net:  # nothing can be stronger than what is possible, but for rounding
            right &= accuracy >= truth - 1.001 / IMAGES
        if status.startswith("refused"):
            outcome = "refused"
        elif status != "ok":
            outcome = "marked"
        else:
            outcome = "right" if right else "WRONG"
        return Cell(outcome, accuracy, status, float(twin["accuracy"]), truth, outcome == "marked" and right)
