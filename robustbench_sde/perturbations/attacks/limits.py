"""Smallest values of parameters, given in the type of the field: ``steps: AtLeastOne = 20``.

Below these values an attack would do nothing, and the model would look robust.
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
    #: text of the limit in messages
    wanted: str


AtLeastOne = Annotated[int, Limit(1, "at least 1")]
#: a number of things that may be none
Count = Annotated[int, Limit(0, "at least 0")]
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
            raise BenchError(f"`{name}` is {value}; it must be {limit.wanted}")


@cache
def _limits(kind: Any) -> dict[str, Limit]:
    """Return the limits by field; a field that is declared again without a limit keeps that of the base."""
    limits: dict[str, Limit] = {}
    for base in reversed(kind.__mro__):
        try:
            hints = get_type_hints(base, include_extras=True)
        except NameError:  # a plug-in that imports its types for type checkers alone
            continue
        limits |= {name: limit for name, hint in hints.items() if (limit := _limit_in(hint)) is not None}
    return limits


def _limit_in(hint: Any) -> Limit | None:
    """Return the limit in a type, or in a member of a union; None if there is none."""
    for part in get_args(hint):
        found = part if isinstance(part, Limit) else _limit_in(part) if get_origin(part) else None
        if found is not None:
            return found
    return None
