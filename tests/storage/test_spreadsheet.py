"""CSV that a spreadsheet does not compute."""

import io

import numpy as np
import pandas as pd
import pytest

from robustbench_sde.storage.spreadsheet import as_text, csv_text, read_csv, without_apostrophe


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("=1+1", True),
        ("@SUM(A1)", True),
        ("+cmd|' /C calc'!A0", True),
        ("-2+3+cmd|'x'", True),
        ("\tdigits", True),
        ("digits-ode", False),
        ("-16.0 (-22.8 to -8.9)", False),
        ("+4.5 (-1.4 to 10.3)", False),
        ("-1.4e-05", False),
        ("", False),
        ("'digits", False),
    ],
)
def test_formulas_are_marked_and_numbers_are_not(text, marked):
    """A mark is an apostrophe, and reading takes it away again."""
    assert as_text(text) == (f"'{text}" if marked else text)
    assert without_apostrophe(as_text(text)) == text


def test_numbers_of_a_table_stay_numbers():
    """Only texts are marked, and the caller's table does not change."""
    frame = pd.DataFrame(
        {"name": ["=a", "b", None], "value": [-1.5, float("nan"), 2.0], "ok": [True, False, True]}
    )
    text = csv_text(frame)
    assert text == "name,value,ok\n'=a,-1.5,True\nb,,False\n,2.0,True\n"
    assert frame["name"].tolist()[0] == "=a"
    assert pd.read_csv(io.StringIO(text))["value"].tolist()[0] == -1.5


def test_numbers_are_read_as_they_were_written(tmp_path):
    """Every number is exact; pandas before 3.1 reads a third of them to the next float by default."""
    numbers = np.random.default_rng(0).random(10_000)
    path = tmp_path / "numbers.csv"
    path.write_text(csv_text(pd.DataFrame({"number": numbers})))
    assert (read_csv(path)["number"] == numbers).all()
