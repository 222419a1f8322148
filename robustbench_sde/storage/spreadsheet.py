"""CSV that a spreadsheet shows as it is: a text that begins like a formula has an apostrophe before it."""

import re

import pandas as pd

_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.,e+\-% ()to]*$)")


def as_text(value: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would compute; anything else stays as it is."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def without_apostrophe(value: object) -> object:
    """Undo `as_text`."""
    marked = isinstance(value, str) and value.startswith("'") and _FORMULA.match(value[1:])
    return str(value)[1:] if marked else value


def csv_text(frame: pd.DataFrame, *, float_format: str | None = None) -> str:
    """Write a table as CSV without its index; floats exactly, or in the given format."""
    texts = frame.select_dtypes(exclude=["number", "bool"]).columns
    guarded = frame.assign(**{str(name): frame[name].map(as_text) for name in texts})
    return guarded.to_csv(index=False, float_format=float_format)
