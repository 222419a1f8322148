"""Progress on a terminal."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from robustbench_sde.reporting.progress import _columns


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
