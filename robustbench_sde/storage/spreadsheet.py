"""CSV that a spreadsheet shows as it is: a text that begins like a formula has an apostrophe before it."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.,e+\-% ()to]*$)")

#: option of `pandas.read_csv` by which numbers are read exactly; without it, pandas before 3.1 reads a third
#: of them to the next float, and later versions warn of it
_EXACT: dict[str, Any] = (
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)


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


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file; every number is the one that was written.

    Args:
        path: the file.
        options: as of `pandas.read_csv`.

    Raises:
        ValueError: the file is not such a table.
        OSError: it cannot be read.
    """
    frame: pd.DataFrame = pd.read_csv(path, **_EXACT, **options)
    return frame
