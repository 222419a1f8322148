"""Parse the texts of options into values."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

import typer

from robustbench_sde.errors import BenchError

_SEVERITIES = ("1", "2", "3", "4", "5")


def parse_score_draws(text: str | int) -> int | str:
    """Parse a whole number or ``auto``, for `options.ScoreDraws`."""
    return _number_or(text, "auto")


def parse_images(text: str | int) -> int | str:
    """Parse a whole number or ``all``, for `options.Images`."""
    return _number_or(text, "all")


def _number_or(text: str | int, word: str) -> int | str:
    if str(text).lower() == word:
        return word
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number, nor {word}.") from None


def parse_numbers(texts: Sequence[str], option: str) -> list[float]:
    """Parse numbers or fractions like ``0.25`` or ``1/8``, with commas or several texts.

    Raises:
        BenchError: a part is no number; the message names `option`.
    """
    numbers = []
    for part in parts(texts):
        try:
            numbers.append(float(Fraction(part)))
        except (ValueError, ZeroDivisionError):
            raise BenchError(f"{option} {part!r} is not a number; write 0.25 or 1/4") from None
    return numbers


def parse_smoothing(texts: Sequence[str] | None) -> list[float] | None:
    """Parse the deviations of `--smoothing`; None if none is given.

    Raises:
        BenchError: one is no number.
    """
    return parse_numbers(texts, "--smoothing") if texts else None


def parse_draws(text: str) -> int | str:
    """Parse a whole number or ``auto``, for `--eot-draws`.

    Raises:
        BenchError: it is neither.
    """
    if text.lower() == "auto":
        return "auto"
    if not text.isdecimal():
        raise BenchError(f"--eot-draws is {text!r}; it must be a whole number or auto")
    return int(text)


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
            raise BenchError(f"severity {part!r} is not in 1 to 5; write 3, 1-5 or 1,3,5")
        severities |= set(range(int(low), int(high) + 1))
    return sorted(severities)


def parse_eps(texts: str | Sequence[str], norm: str = "") -> list[float]:
    """Parse budgets like ``0.03`` or ``8/255``, several with commas or by repetition.

    Raises:
        BenchError: something is not a number, or more than 1 for `linf`.
    """
    from robustbench_sde.perturbations.norms import parse_budget

    found = parts(texts)
    for text, following in zip(found, [*found[1:], ""], strict=True):
        if text == "0" and re.fullmatch(r"\d+", following):
            raise BenchError(
                f"--eps {text},{following} is a list of two budgets; did you mean {text}.{following}?"
            )
    budgets = [parse_budget(text) for text in found]
    for text, budget in zip(found, budgets, strict=True):
        if norm == "linf" and budget > 1 and text.isdecimal():
            raise BenchError(f"--eps {text} is too large for images in [0, 1]; did you mean {text}/255?")
    return budgets


def parse_one_eps(text: str | None, norm: str) -> float | None:
    """Parse one budget; None stays None, the default of the API.

    Raises:
        BenchError: it is not one number, or more than 1 for `linf`.
    """
    if text is None:
        return None
    budget, *others = parse_eps(text, norm)
    if others:
        raise BenchError(f"--eps {text}: this command takes one budget")
    return budget


def parts(texts: str | Sequence[str]) -> list[str]:
    """Split one or several texts at commas."""
    several = [texts] if isinstance(texts, str) else texts
    return [part.strip() for text in several for part in text.split(",")]


def names(texts: str | Sequence[str], known: Iterable[str]) -> list[str]:
    """Parse names, several with commas or by repetition; upper and lower case are equal for known names."""
    return [spelled(name, known) for name in parts(texts) if name]


def spelled(name: str, known: Iterable[str]) -> str:
    """Return the known name that differs from `name` in case at most, or else `name` itself."""
    folded = {each.casefold(): each for each in known}
    return folded.get(name.casefold(), name)
