"""Attacks by name. A new one is one file here and one line in `ATTACKS`.

A plug-in's is a class under the entry point group ``robustbench_sde.attacks``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.perturbations.attacks.apgd import APGDDLR, APGDCrossEntropy, APGDTargeted
from robustbench_sde.perturbations.attacks.auto import Auto
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.attacks.cw import CarliniWagner
from robustbench_sde.perturbations.attacks.fixed_path import FixedPathAttack
from robustbench_sde.perturbations.attacks.fmn import FastMinimumNorm
from robustbench_sde.perturbations.attacks.foolbox_attack import PREFIX, foolbox_kind
from robustbench_sde.perturbations.attacks.hopskipjump import HopSkipJump
from robustbench_sde.perturbations.attacks.liu2020 import Liu2020
from robustbench_sde.perturbations.attacks.noise import Noise
from robustbench_sde.perturbations.attacks.other_solver import OtherSolver
from robustbench_sde.perturbations.attacks.pgd import PGD
from robustbench_sde.perturbations.attacks.square import Square
from robustbench_sde.perturbations.attacks.transfer import Transfer
from robustbench_sde.plugins import Plugins

ATTACKS: Mapping[str, type[Attack]] = MappingProxyType(
    {
        attack.name: attack
        for attack in (
            PGD,
            APGDCrossEntropy,
            APGDDLR,
            APGDTargeted,
            CarliniWagner,
            FastMinimumNorm,
            Square,
            HopSkipJump,
            Noise,
            Transfer,
            FixedPathAttack,
            OtherSolver,
            Liu2020,
            Auto,
        )
    },
)


def _from_plugin(name: str, kind: object) -> type[Attack]:
    if not (isinstance(kind, type) and issubclass(kind, Attack)):
        raise BenchError(f"it is {kind!r}; it must be a subclass of Attack")
    if getattr(kind, "name", None) != name:
        raise BenchError(
            f"the name of its class is {getattr(kind, 'name', None)!r}; it must be that of the entry"
        )
    return kind


ATTACK_PLUGINS = Plugins("attacks", _from_plugin)


def attack_kind(name: str) -> type[Attack]:
    """The class of the attack called `name`: one of `ATTACKS`, ``foolbox:<class name>``, or a plug-in's.

    Raises:
        BenchError: there is no such attack, or foolbox's or the plug-in's cannot be used.
    """
    if name.startswith(PREFIX):
        return foolbox_kind(name.removeprefix(PREFIX))
    kind = ATTACKS.get(name) or ATTACK_PLUGINS.find(name)
    if kind is None:
        raise unknown_name("attack", name, [*ATTACKS, *ATTACK_PLUGINS.names()])
    return kind


def make_attack(name: str, **parameters: Any) -> Attack:
    """The attack called `name`; parameters are the fields of its class; `eot_draws` may be ``"auto"``.

    Raises:
        BenchError: unknown attack or parameter, or a value out of range.
    """
    kind = attack_kind(name)
    known = kind.parameters()
    if parameters.get("eot_draws") == "auto":
        del parameters["eot_draws"]
        parameters["adaptive_draws"] = True
    for parameter, value in parameters.items():
        if parameter not in known:
            raise unknown_name(f"parameter of {name}", parameter, known)
        if isinstance(known[parameter], int) and not isinstance(value, int):
            raise BenchError(f"{name}: {parameter} is {value!r}; it must be a whole number")
    return kind(**parameters)
