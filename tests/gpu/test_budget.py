"""`python -m benchmarks.gpu` keeps its time, and says so where there is no GPU."""

import sys
import time

import pytest
import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu.budget import Budget, OutOfTime


class Clock:
    """A clock that stands still unless it is moved on."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def measured(clock, lengths):
    """Yield a row for each length, after so many seconds of the clock."""
    for length in lengths:
        clock.now += length
        yield {"seconds": length}


def test_rows_are_left_out_rather_than_begun_too_late():
    """A row begins only if one as slow as the slowest so far still fits; the last row says it."""
    clock = Clock()
    budget = Budget(10, clock)
    rows = list(budget.rows(measured(clock, [1, 4, 1, 4, 4])))
    assert [row.get("seconds") for row in rows] == [1, 4, 1, None]
    assert rows[-1] == {"left out": "the rest, after 3 rows: 4 s were left"}
    assert clock.now - 100 <= 10
    assert [row["seconds"] for row in Budget(20, clock).rows(measured(clock, [1, 4, 1]))] == [1, 4, 1]


def test_a_section_after_the_end_is_left_out_and_tests_then_fail(capsys):
    """No section begins after the end of the budget; tables may be missing, tests may not."""
    clock = Clock()
    budget = Budget(10, clock)
    clock.now += 11
    rows = []
    names = ("passes", program.TESTS)
    codes = [program.run_section(name, lambda: measured(clock, [1]), budget, rows) for name in names]
    assert codes == [0, 1]
    assert rows == [{"left out": "the time was over"}] * 2
    assert "passes: the time is over" in capsys.readouterr().out
    assert clock.now == 111


def test_a_row_that_takes_too_long_is_interrupted():
    """A block that would go on for a minute ends when the budget does, and no alarm is left behind."""
    began = time.perf_counter()
    with pytest.raises(OutOfTime), Budget(0.2).alarm():
        time.sleep(60)
    assert time.perf_counter() - began < 30
    with Budget(0.2).alarm():
        pass
    time.sleep(0.3)


def test_tests_that_are_cut_off_show_how_far_they_came(capsys):
    """The output of tests until the end of the time is printed, and the exit code is 1."""
    slow = [sys.executable, "-c", "print('3 passed', flush=True); import time; time.sleep(100)"]
    assert program.run_section(program.TESTS, lambda: program.run_tests(slow), Budget(8), []) == 1
    assert "3 passed" in capsys.readouterr().out
    quick = program.run_tests([sys.executable, "-c", "print('4 passed'); raise SystemExit(5)"])
    assert [(row["tests"], row["exit"]) for row in quick] == [("4 passed", 5)]


def test_a_section_that_fails_leaves_the_others(capsys):
    """An error of a section is a row of it and exit code 1; so is a failed run of tests."""

    def broken():
        yield {"seconds": 1}
        raise ValueError("no such option")

    rows = []
    assert program.run_section("passes", broken, Budget(60), rows) == 1
    assert rows == [{"seconds": 1}, {"error": "ValueError: no such option"}]
    assert program.run_section(program.TESTS, lambda: [{"exit": 3}], Budget(60), []) == 1
    assert program.run_section(program.TESTS, lambda: [{"exit": 0}], Budget(60), []) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(capsys):
    """One line says that there is no GPU, and the exit code is 2."""
    assert program.main([]) == 2
    assert capsys.readouterr().err == "no CUDA GPU is available here: nothing was measured\n"
