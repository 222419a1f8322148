"""Attacks of foolbox with norm L2 or Linf by their class names, run on our models and scored here."""

import inspect
import math
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.perturbations.attacks.base import SingleAttack
from robustbench_sde.perturbations.attacks.limits import AtLeastOne
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.norms import get_norm
from robustbench_sde.sde.draws import KeyedRandom

#: What comes before the class name.
PREFIX = "foolbox:"
_NORMS = {2: "l2", math.inf: "linf"}
#: Attacks that need what we do not give, by class name.
_REFUSED = {
    "DatasetAttack": "it needs a data set of its own",
    "GenAttack": "it needs a target class",
    "SpatialAttack": "it rotates and shifts: no norm bounds it",
}
#: Modules of foolbox.attacks whose attacks take no gradient.
_BLACK_BOXES = {"additive_noise", "boundary_attack", "contrast", "hop_skip_jump", "saltandpepper"}


@dataclass(frozen=True, kw_only=True)
class FoolboxAttack(SingleAttack):
    """An attack of foolbox; `foolbox:LinfPGD` makes a subclass of this.

    Images are attacked one by one, so that the global random generators that foolbox uses can be seeded for
    each image. The success flags of foolbox are not used. Step sizes are 2.5 / steps of the budget.
    Attacks that look for the smallest change take the number of steps that foolbox gives them by default.
    """

    name = "foolbox"
    revision = 2  # 1 did not compare gradients with a module
    keeps_steps = False
    #: name of the class in foolbox.attacks
    kind: ClassVar[str] = ""

    def run(self, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        if self.minimal and victim.stochastic:
            raise BenchError(
                f"{self.name} keeps the closest point that was ever misclassified, which on a random model "
                "is one lucky draw: use fmn or cw"
            )
        return torch.cat(
            [
                self._one(victim.only(torch.tensor([row])), images[row : row + 1], start, restart)
                for row in range(len(images))
            ]
        )

    def _one(self, victim: Victim, image: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        foolbox = _foolbox()

        from robustbench_sde.perturbations.attacks.foolbox_model import FoolboxModel, seeded

        attack = _foolbox_class(self.kind)(**self._arguments())
        options: dict[str, Any] = {} if self.minimal else {"epsilon": self.eps}
        with seeded(start, victim.ids, restart):
            criterion = foolbox.Misclassification(victim.labels)
            try:
                result: Tensor = attack.run(FoolboxModel(victim), image, criterion, **options).detach()
            except ValueError as error:
                if "init_attack failed" not in str(error):
                    raise
                result = image  # nothing adversarial to start from: the image stands
        if not result.isfinite().all():
            return result  # for the verification to find
        return result.clamp(0, 1) if self.budget is None else self.budget.project(image, result)

    def _arguments(self) -> dict[str, Any]:
        taken = inspect.signature(_foolbox_class(self.kind)).parameters
        arguments = {"steps": self.steps, "rel_stepsize": 2.5 / self.steps}
        return {name: value for name, value in arguments.items() if name in taken}

    @property
    def attack_steps(self) -> float:
        return float(self.steps) if "steps" in self._arguments() else math.nan

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return _rebuild, (self.kind, values)


def _rebuild(kind: str, values: dict[str, Any]) -> FoolboxAttack:
    return foolbox_kind(kind)(**values)


@cache
def foolbox_kind(kind: str) -> type[FoolboxAttack]:
    """Return the attack `foolbox:<kind>` as a subclass, so that its repr names it.

    Raises:
        BenchError: foolbox has no such attack, or it cannot be run here, with the reason.
    """
    foolbox = _foolbox()
    found = _foolbox_class(kind)
    name = PREFIX + kind
    if kind in _REFUSED:
        raise BenchError(f"{name} cannot be run: {_REFUSED[kind]}")
    signature = inspect.signature(found).parameters
    required = [
        parameter.name
        for parameter in signature.values()
        if parameter.default is parameter.empty and parameter.name not in ("steps", "kwargs")
    ]
    if required:
        raise BenchError(f"{name} cannot be run: it needs {', '.join(required)}")
    minimal = issubclass(found, foolbox.attacks.base.MinimizationAttack)
    power = _power(name, found)
    if power not in _NORMS:
        known = " and ".join(sorted(_NORMS.values()))
        raise BenchError(f"{name} cannot be run: it supports none of the norms {known}")
    norm = get_norm(_NORMS[power]).name
    own_steps = getattr(signature.get("steps"), "default", None)
    attributes = {
        "name": name,
        "kind": kind,
        "norms": (norm,),
        "minimal": minimal,
        "gradients": found.__module__.rpartition(".")[2] not in _BLACK_BOXES,
        "__doc__": f"foolbox's {kind}.",
        "__module__": __name__,
        "__qualname__": name,
    }
    if minimal and isinstance(own_steps, int):
        attributes |= {"steps": own_steps, "__annotations__": {"steps": AtLeastOne}}
    return dataclass(frozen=True, kw_only=True, repr=True)(type(kind, (FoolboxAttack,), attributes))


def _power(name: str, found: type[Any]) -> float | None:
    """The p of the norm that an attack bounds; None if it has none by itself.

    Made with its defaults, an attack says so: of its class the distance can be a property, or not the one
    that its constructor chooses.

    Raises:
        BenchError: it needs a library that is not installed.
    """
    try:
        made = found(**({"steps": 1} if "steps" in inspect.signature(found).parameters else {}))
    except ImportError as error:
        raise BenchError(f"{name} cannot be run: {error.name} is not installed") from error
    try:
        distance = made.distance
    except (AttributeError, ValueError):  # it has none, or the caller is to choose one
        return None
    return getattr(distance, "p", None)


def _foolbox() -> Any:
    """Import and return the library foolbox, which takes some time."""
    return import_module("foolbox")


def _foolbox_class(kind: str) -> type[Any]:
    foolbox = _foolbox()
    known = {
        name: value
        for name, value in vars(foolbox.attacks).items()
        if inspect.isclass(value)
        and issubclass(value, foolbox.attacks.base.Attack)
        and value.__module__ != foolbox.attacks.base.__name__
    }
    if kind not in known:
        raise unknown_name("foolbox attack", kind, known)
    return known[kind]
