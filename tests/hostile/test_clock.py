"""The clock set back or on while a run works, or between two runs."""

import os
import time

import pytest
from builders import save_digits_model

import robustbench_sde as rb
from robustbench_sde.storage.lock import locked
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.run_state import state_of
from robustbench_sde.storage.runs_here import _local_time

DAY = 86400.0
#: seconds from the true time to the start of the run, its two cells and now; whether there is an estimate
CLOCKS = {
    "right": (0, (3, 6), 7, True),
    "set back by a year after the last cell": (0, (3, 6), 7 - 365 * DAY, False),
    "set back by a minute after the last cell": (0, (3, 6), 7 - 60, False),
    "set back by a day between two cells": (0, (3, 6 - DAY), 7 - DAY, False),
    "set back by a day after the start": (0, (3 - DAY, 6 - DAY), 7 - DAY, False),
    "set back by a day before it goes on": (-DAY, (3, 6), 7 - DAY, False),
    "set on by a year after the last cell": (0, (3, 6), 7 + 365 * DAY, True),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, digits):
    """A run of four cells of which two are stored."""
    place = tmp_path_factory.mktemp("place")
    save_digits_model(place / "a.safetensors", "none")
    rb.attack(
        place / "a.safetensors", digits.subset(2), eps=[0.02, 0.1], steps=1, score_draws=1, out=place / "run"
    )
    for path in sorted((place / "run" / "records").glob("*pgd*")):
        path.unlink()
    (place / "run" / "manifest.yaml").unlink()
    return place / "run"


@pytest.mark.parametrize("name", CLOCKS)
def test_the_time_left_is_never_one_of_years(stopped, monkeypatch, name):
    """A clock that makes no sense gives no estimate, any other one of seconds."""
    start, cells, now, can_tell = CLOCKS[name]
    true = time.time()
    os.utime(stopped / "planned.json", (true + start,) * 2)
    for path, when in zip(sorted((stopped / "records").iterdir()), cells, strict=True):
        os.utime(path, (true + when,) * 2)
    monkeypatch.setattr(time, "time", lambda: true + now)
    with locked(stopped):
        state = state_of(RunFolder(stopped))
    assert (state.running, state.stored, state.planned) == (True, 2, 4)
    if can_tell:
        assert state.seconds_left is not None
        assert 1 <= state.seconds_left < 3600
    else:
        assert state.seconds_left is None


@pytest.mark.parametrize("years", [-20, 20])
def test_files_of_another_time_are_the_same_files(tmp_path, digits, monkeypatch, program, years):
    """A run whose files are all older or newer than the clock goes on, is listed, shown and compared."""
    monkeypatch.chdir(tmp_path)
    save_digits_model(tmp_path / "a.safetensors", "none")
    asked = {"eps": 0.1, "steps": 1, "score_draws": 1, "out": "reports/run"}
    first = rb.attack("a.safetensors", digits.subset(2), **asked)
    for path in (tmp_path / "reports").rglob("*"):
        os.utime(path, (time.time() + years * 365 * DAY,) * 2)
    again = rb.attack("a.safetensors", digits.subset(2), **asked)
    assert again.reused == len(first.summary) == 3
    assert again.summary.equals(first.summary)
    for command in (("list", "runs"), ("show", "run"), ("report", "run"), ("compare", "run", "run")):
        code, _, error = program(*command)
        assert code in (0, 3), error
        assert not error


@pytest.mark.parametrize(("seconds", "text"), [(1e15, "unknown"), (float("nan"), "unknown")])
def test_a_time_that_no_calendar_has_is_unknown(seconds, text):
    """File systems store times of millions of years, and `list runs` has to go on."""
    assert _local_time(seconds) == text
