"""Smallest values of parameters, said in the type of the field: ``steps: AtLeastOne = 20``.

Below them an attack would do nothing, and its table row would praise the defence.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from robustbench_sde.errors import BenchError


@dataclass(frozen=True)
class Limit:
    """The smallest value of a parameter."""

    least: float
    #: how a message says it
    wanted: str


AtLeastOne = Annotated[int, Limit(1, "at least 1")]
#: an index from 0
Index = Annotated[int, Limit(0, "at least 0")]
Positive = Annotated[float, Limit(math.ulp(0.0), "above 0")]
NotNegative = Annotated[float, Limit(0, "at least 0")]


def check_limits(parameters: Any) -> None:
    """Compare every field of a dataclass with the limit in its type; None has none.

    Raises:
        BenchError: a value is below its limit, or NaN.
    """
    for name, limit in _limits(parameters.__class__).items():
        value = getattr(parameters, name)
        if value is not None and not value >= limit.least:
            raise BenchError(f"{name} is {value}; it must be {limit.wanted}")


@cache
def _limits(kind: Any) -> dict[str, Limit]:
    """Limits by field; a subclass that declares a field anew without one keeps that of its base."""
    limits: dict[str, Limit] = {}
    for base in reversed(kind.__mro__):
        try:
            hints = get_type_hints(base, include_extras=True)
        except NameError:  # a plug-in that imports its types for type checkers alone
            continue
        limits |= {name: limit for name, hint in hints.items() if (limit := _limit_in(hint)) is not None}
    return limits


def _limit_in(hint: Any) -> Limit | None:
    """The limit in a type, or in a member of a union; None without one."""
    for part in get_args(hint):
        found = part if isinstance(part, Limit) else _limit_in(part) if get_origin(part) else None
        if found is not None:
            return found
    return None
