"""Progress on a terminal."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from robustbench_sde.reporting.progress import _columns


@pytest.mark.parametrize("bars", [1, 2])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_counts_and_time_are_there_however_long_names_are(width, bars):
    """Counts and times stay in one unbroken line; names are cut, and the note first."""
    text = io.StringIO()
    console = Console(file=text, width=width)
    bar = Progress(*_columns(width, bars), console=console)
    task = bar.add_task("a-name-of-a-checkpoint pgd linf eps=0.03 · " * 2, total=1234, note="b" * 80)
    bar.advance(task, 123)
    console.print(bar.get_renderable())
    (line,) = text.getvalue().splitlines()
    assert " 123/1234 " in line
    assert "-:--:--" in line
    assert "a-name-of-a-check" in line
    assert len(line.rstrip()) <= width
