"""Parse texts that stand for values, on the command line and in Python: ``8/255``, ``1-5``, ``pgd,cw``."""

import math
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction

from robustbench_sde.errors import BenchError

_SEVERITIES = ("1", "2", "3", "4", "5")


def parts(texts: str | Sequence[str]) -> list[str]:
    """Split one or several texts at commas."""
    several = [texts] if isinstance(texts, str) else texts
    return [part.strip() for text in several for part in text.split(",")]


def names(texts: str | Sequence[str], known: Iterable[str]) -> list[str]:
    """Parse names, several with commas or by repetition; upper and lower case are equal for known names."""
    return [spelled(name, known) for name in parts(texts) if name]


def matches(name: str, pattern: str) -> bool:
    """Whether a name has this pattern: ``*`` is any text, ``?`` any letter, any other letter itself."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def spelled(name: str, known: Iterable[str]) -> str:
    """Return the known name that differs from `name` in case at most, or else `name` itself."""
    folded = {each.casefold(): each for each in known}
    return folded.get(name.casefold(), name)


def parse_budget(text: str) -> float:
    """Parse ``0.03`` or ``8/255`` as a number.

    Raises:
        BenchError: it is not a number, or not finite.
    """
    over, _, under = text.strip().partition("/")
    try:
        value = float(over) / (float(under) if under else 1.0)
    except (ValueError, ZeroDivisionError):
        raise BenchError(f"`eps` {text.strip()!r} is not a number; write 0.03 or 8/255") from None
    if not math.isfinite(value):
        raise BenchError(f"`eps` {text.strip()!r} is not finite; write 0.03 or 8/255")
    return value


def short_budget(eps: float) -> str:
    """Format a budget as people type it, ``0.03`` or ``8/255``: a grey level if the decimal is long."""
    grey = 255 * eps
    return f"{grey:.0f}/255" if len(f"{eps:g}") > 5 and abs(grey - round(grey)) < 1e-6 else f"{eps:g}"


def parse_eps(texts: str | Sequence[str], norm: str = "") -> list[float]:
    """Parse budgets like ``0.03`` or ``8/255``, several with commas or by repetition.

    Raises:
        BenchError: something is not a number, or more than 1 for `linf`.
    """
    found = parts(texts)
    for text, following in zip(found, [*found[1:], ""], strict=True):
        if text == "0" and re.fullmatch(r"\d+", following):
            raise BenchError(
                f"`eps` {text},{following} is a list of two budgets; did you mean {text}.{following}?"
            )
    budgets = [parse_budget(text) for text in found]
    for text, budget in zip(found, budgets, strict=True):
        if norm == "linf" and budget > 1 and text.isdecimal():
            raise BenchError(f"`eps` {text} is too large for images in [0, 1]; did you mean {text}/255?")
    return budgets


def parse_numbers(texts: str | Sequence[str], parameter: str) -> list[float]:
    """Parse numbers or fractions like ``0.25`` or ``1/8``, with commas or several texts.

    Raises:
        BenchError: a part is no number; the message names `parameter`.
    """
    numbers = []
    for part in parts(texts):
        try:
            numbers.append(float(Fraction(part)))
        except (ValueError, ZeroDivisionError):
            raise BenchError(f"`{parameter}` {part!r} is not a number; write 0.25 or 1/4") from None
    return numbers


def parse_severities(texts: str | Sequence[str]) -> list[int]:
    """Parse ``3``, ``1-5`` or several with commas; returns them in order, each once.

    Raises:
        BenchError: something is not a whole number from 1 to 5, or a range goes down.
    """
    severities: set[int] = set()
    for part in parts(texts):
        first, dash, last = part.partition("-")
        low, high = first.strip(), last.strip() if dash else first.strip()
        if not (low in _SEVERITIES and high in _SEVERITIES and low <= high):
            raise BenchError(f"`severity` {part!r} is not in 1 to 5; write 3, 1-5 or 1,3,5")
        severities |= set(range(int(low), int(high) + 1))
    return sorted(severities)
