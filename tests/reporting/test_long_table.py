"""Tables of thousands of lines."""

import io
from importlib import metadata

import pytest
from packaging.version import Version
from rich.console import Console
from rich.text import Text

from robustbench_sde.reporting import long_table
from robustbench_sde.reporting.table import TableColumn, fit_to_width

COLUMNS = (
    TableColumn("checkpoint", numeric=False),
    TableColumn("perturbation", numeric=False),
    TableColumn("accuracy (95 %)"),
    TableColumn("passes spent", spare=1),
)
LINES = [
    ["", "pgd linf 0.03 (7.65/255)", "1.5 (0.2-6.0)", "2"],
    ["a 名前 of wide letters", "fog 3", "100.0 (72.2-100.0)", ""],
    [Text("invalid", "red"), Text("a-very-long-word-that-no-column-has-room-for x", "red"), "", "163"],
]


def shown(width, blocks):
    """Return a table as text."""
    text = io.StringIO()
    console = Console(file=text, width=width)
    console.print(fit_to_width(console, "a title", COLUMNS, blocks, stacked=True))
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.skipif(
    Version(metadata.version("rich")) < Version("14.3"),
    reason="earlier ones place columns otherwise",
)
@pytest.mark.parametrize("width", [30, 45, 60, 75, 90, 160])
def test_a_long_table_has_the_letters_of_rich(width, monkeypatch):
    """A long table writes its lines itself, at any width and with blank lines between blocks, like rich."""
    blocks = [LINES * 20, LINES[:2], LINES * 20]
    fast = shown(width, blocks)
    assert len(fast) > 122
    monkeypatch.setattr(long_table, "_LONG", 10**9)
    assert fast == shown(width, blocks)


def test_a_bad_line_keeps_its_colour():
    """Styles of cells reach the terminal."""
    text = io.StringIO()
    console = Console(file=text, width=160, force_terminal=True, color_system="standard")
    console.print(fit_to_width(console, "a title", COLUMNS, [LINES * 40]))
    assert text.getvalue().count("\x1b[31minvalid") == 40
