"""Progress on a terminal."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from robustbench_sde.reporting.progress import _PACE, _columns, _PlainLines


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_counts_and_time_are_there_however_long_names_are(width):
    """Counts and times of two bars stay in one unbroken line; names are cut, and the note first."""
    text = io.StringIO()
    console = Console(file=text, width=width)
    bar = Progress(*_columns(width, 2), console=console)
    task = bar.add_task("a-name-of-a-checkpoint pgd linf eps=0.03 · " * 2, total=1234, note="b" * 80)
    bar.advance(task, 123)
    console.print(bar.get_renderable())
    (line,) = text.getvalue().splitlines()
    assert " 123/1234 " in line
    assert "-:--:--" in line
    assert "a-name-of-a-check" in line
    assert len(line.rstrip()) <= width


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_bar_alone_says_how_the_work_goes_before_the_bar(width):
    """Loss and accuracy are whole at 80 columns, left of the bar; the name of the checkpoint is cut."""
    text = io.StringIO()
    console = Console(file=text, width=width)
    bar = Progress(*_columns(width, 1), console=console)
    note = "epoch 100/110 loss 1.854 acc 100.0%"
    task = bar.add_task("train digits-multiplicative-0.5-seed0" * 2, total=690, note=note)
    bar.advance(task, 123)
    console.print(bar.get_renderable())
    (line,) = text.getvalue().splitlines()
    assert line.index("train digits-") < line.index(note) < line.index("━") < line.index(" 123/690 ")
    assert len(line.rstrip()) <= width


@pytest.mark.parametrize("bars", [1, 2])
def test_the_bar_stays_where_it_is(bars):
    """Texts of another length do not move the bar."""
    places = []
    for name in ("digits-ode clean", "digits-multiplicative pgd linf 4/255 · scoring"):
        text = io.StringIO()
        console = Console(file=text, width=80)
        bar = Progress(*_columns(80, bars), console=console)
        note = name if bars == 1 else ""
        task = bar.add_task("train net" if bars == 1 else name, total=100, note=note)
        bar.advance(task, 50)
        console.print(bar.get_renderable())
        places.append(text.getvalue().index(" 50/100"))
    assert places[0] == places[1]


@pytest.mark.parametrize("seconds", [5, 50, 700, 50_000])
def test_the_time_left_stays_where_it_is(seconds):
    """Whether 5 seconds or 10 hours are left, the note behind the time begins in the same column."""
    text = io.StringIO()
    console = Console(file=text, width=80)
    clock = [0.0]
    bar = Progress(*_columns(80, 2), console=console, get_time=lambda: clock[0], speed_estimate_period=_PACE)
    task = bar.add_task("net pgd", total=100, note="scoring")
    for _ in range(2):
        clock[0] += seconds / 50
        bar.advance(task, 25)
    console.print(bar.get_renderable())
    (line,) = text.getvalue().splitlines()
    assert "-:--:--" not in line
    first = io.StringIO()
    console = Console(file=first, width=80)
    unknown = Progress(*_columns(80, 2), console=console)
    unknown.add_task("net clean", total=100, note="scoring")
    console.print(unknown.get_renderable())
    assert line.index("scoring") == first.getvalue().index("scoring")
    assert len(line) == len(first.getvalue().rstrip("\n"))


@pytest.mark.parametrize(("note", "end"), [("", "70 s left"), ("scoring", "70 s left, scoring")])
def test_a_plain_line_ends_in_a_word(monkeypatch, note, end):
    """A line for a log has no comma behind which nothing comes."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    lines = _PlainLines(stream)
    lines.start("net pgd", 10)
    clock[0] = 30.0
    lines.advance(3, note)
    assert stream.getvalue() == f"net pgd: 3/10, {end}\n"
    clock[0] = 60.0
    lines.advance(7)
    assert stream.getvalue().splitlines()[1].startswith("net pgd: 10/10, done")
