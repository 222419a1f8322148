"""Attacks by name. A new one is one file here and one line in `ATTACKS`."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.attacks.cw import CarliniWagner
from robustbench_sde.perturbations.attacks.pgd import PGD

ATTACKS: Mapping[str, type[Attack]] = MappingProxyType(
    {attack.name: attack for attack in (PGD, CarliniWagner)},
)


def make_attack(name: str, **parameters: Any) -> Attack:
    """The attack called `name`; parameters are the fields of its class.

    Raises:
        BenchError: unknown attack or parameter, or a value out of range.
    """
    if name not in ATTACKS:
        raise unknown_name("attack", name, ATTACKS)
    known = {field.name: field for field in dataclasses.fields(ATTACKS[name])}
    for parameter, value in parameters.items():
        if parameter not in known:
            raise unknown_name(f"parameter of {name}", parameter, known)
        default = known[parameter].default
        if isinstance(default, int) and not isinstance(value, int):
            raise BenchError(f"{name}: {parameter} is {value!r}; it must be a whole number")
    return ATTACKS[name](**parameters)
