"""Parse the texts of options into values; what Python functions parse as well is in `texts`."""

import re
from collections.abc import Sequence

import typer

from robustbench_sde.errors import BenchError
from robustbench_sde.texts import names, parse_eps, parse_numbers, parse_severities, parts, spelled

__all__ = [
    "names",
    "parse_draws",
    "parse_eps",
    "parse_images",
    "parse_numbers",
    "parse_one_eps",
    "parse_score_draws",
    "parse_severities",
    "parse_smoothing",
    "parts",
    "spelled",
    "with_levy_alpha",
]


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


def parse_smoothing(texts: Sequence[str] | None) -> list[float] | None:
    """Parse the deviations of `--smoothing`; None if none is given.

    Raises:
        BenchError: one is no number.
    """
    return parse_numbers(texts, "smoothing") if texts else None


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


def with_levy_alpha(noise: str, alpha: float) -> str:
    """Write `--levy-alpha` into the text of `--noise`: ``levy:0.5`` becomes ``levy:0.5,alpha=1.5``.

    Raises:
        BenchError: there is no Levy noise, or its text has an alpha already.
    """
    terms = noise.split("+")
    found = [place for place, term in enumerate(terms) if re.split("[:,]", term.strip())[0] == "levy"]
    if not found:
        raise BenchError(f"--levy-alpha needs Levy noise, like --noise levy:0.5; --noise is {noise}")
    if any("alpha" in terms[place] for place in found):
        raise BenchError(f"--levy-alpha and --noise {noise} both give alpha; leave one out")
    return "+".join(f"{term},alpha={alpha:g}" if place in found else term for place, term in enumerate(terms))
