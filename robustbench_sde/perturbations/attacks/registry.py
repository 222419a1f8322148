"""Attacks by name, and the plan from what a user asks for to the attacks that are run.

A new attack is one file in this folder and one line in `ATTACKS`. A plug-in adds its class under the entry
point group ``robustbench_sde.attacks``.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from robustbench_sde.errors import BenchError, tell, unknown_name
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
from robustbench_sde.perturbations.norms import get_norm
from robustbench_sde.plugins import Plugins
from robustbench_sde.texts import parse_budget

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

    Numbers may be text, as ``8/255``.

    Raises:
        BenchError: unknown attack or parameter, or a value out of range or of another type than its field.
    """
    kind = attack_kind(name)
    known, types = kind.parameters(), _types(kind)
    if parameters.get("eot_draws") == "auto":
        del parameters["eot_draws"]
        parameters["adaptive_draws"] = True
    for parameter, value in parameters.items():
        if parameter not in known:
            raise unknown_name(f"parameter of {name}", parameter, known)
        parameters[parameter] = _fitting(f"{name}: {parameter}", value, types.get(parameter))
    return kind(**parameters)


#: types that a value can be checked against, and what they are called
_SORTS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "none"}
_LARGEST = sys.float_info.max


def _types(kind: type[Attack]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # a plug-in that imports its types for type checkers alone
        return {}


def _fitting(what: str, value: Any, declared: Any) -> Any:
    """`value` for a field of this type: as it is, but for a number that is text and a text that is a number.

    Raises:
        BenchError: it is of another type, or not finite.
    """
    sorts = set(get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,))
    if not sorts <= _SORTS.keys():  # a plug-in's own type is for the plug-in to check
        return value
    if isinstance(value, str) and float in sorts and str not in sorts:
        with suppress(BenchError):
            value = parse_budget(value)
    elif type(value) is int and sorts == {str}:  # what YAML makes of the target 3
        value = str(value)
    number = isinstance(value, int | float | np.floating) and -_LARGEST <= value <= _LARGEST
    if not (type(value) in sorts - {float} or (float in sorts and number and not isinstance(value, bool))):
        wanted = " or ".join(name for sort, name in _SORTS.items() if sort in sorts)
        raise BenchError(f"{what} is {value!r:.80}; it must be {wanted}")
    return value


def plan_attacks(
    names: Sequence[str],
    norm: str | None,
    budgets: Sequence[float | None],
    shared: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
) -> list[Attack]:
    """One attack for each name and budget.

    An attack that does not know `norm` looks for the smallest change in its own if that is what it is made
    for, once, whatever the budgets.

    Args:
        names: of attacks.
        norm: of the budgets; None is that of each attack.
        budgets: eps; None is the smallest change that a minimal-norm attack finds.
        shared: parameters of all attacks, where they have them; None leaves an attack its default. Our
            minimal-norm attacks keep their own steps.
        own: parameters of one attack, by its name.

    Raises:
        BenchError: a name, norm or value is wrong.
    """
    if norm is not None:
        get_norm(norm)
    if not names:
        raise BenchError("`attack` names no attack; see `sde-bench list attacks`")
    kinds = [attack_kind(name) for name in names]
    for option, all_take_it in (("target", True), ("source", False), ("samples", False)):
        unable = [kind.name for kind in kinds if option not in kind.parameters()]
        if shared.get(option) is not None and unable and (all_take_it or len(unable) == len(kinds)):
            raise BenchError(f"{unable[0]} takes no `{option}`")
    if shared.get("steps") is not None and all(kind.minimal and kind.keeps_steps for kind in kinds):
        tell(f"{kinds[0].name} keeps its own number of steps, whatever `steps` is: set {kinds[0].name}.steps")
    attacks = []
    for name, kind in zip(names, kinds, strict=True):
        taken = kind.parameters().keys() - ({"steps"} if kind.minimal and kind.keeps_steps else set())
        mine = {key: value for key, value in shared.items() if value is not None and key in taken} | dict(
            own.get(name, {})
        )
        if kind.minimal and norm is not None and norm not in kind.norms:
            attacks.append(make_attack(name, **mine))
        else:
            own_norm = norm or kind.norms[0]
            attacks += [make_attack(name, **{"norm": own_norm, "eps": eps} | mine) for eps in budgets]
    return attacks
