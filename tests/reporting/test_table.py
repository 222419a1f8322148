"""Tables in terminals of any width."""

import io

import pytest
from rich.console import Console

from robustbench_sde.reporting.table import TableColumn, fit_to_width

COLUMNS = (
    TableColumn("checkpoint", numeric=False),
    TableColumn("accuracy (95 %)"),
    TableColumn("single draw (95 %)", spare=1),
    TableColumn("passes spent", spare=2),
)
BLOCKS = [
    [["a-network-of-a-name", "100.0 (72.2-100.0)", "97.5 (90.1-99.0)", "163"]],
    [["two words of b", "1.5 (0.2-6.0)", "", "2"]],
]


def shown(width, **options):
    """Return the lines of a table."""
    text = io.StringIO()
    console = Console(file=text, width=width)
    console.print(fit_to_width(console, "title", COLUMNS, BLOCKS, **options))
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("width", range(45, 100, 5))
def test_no_number_and_no_short_name_is_broken(width, stacked):
    """However narrow; and what is left out is said."""
    lines = shown(width, stacked=stacked)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for word in ("a-network-of-a-name", "100.0", "(72.2-100.0)", "(0.2-6.0)"):
        assert word in text
    assert "…" not in text
    for heading, number in (("single draw", "97.5"), ("passes spent", "163")):
        assert (number in text) != (heading in " ".join(text.split()).partition("no room for: ")[2])


def test_what_gives_way_first():
    """Headings, then columns by their number; stacked, intervals go below before any column goes."""
    assert " ".join(shown(90)[2].split()) == "checkpoint accuracy (95 %) single draw (95 %) passes spent"
    assert shown(76)[2].split() == ["accuracy", "single", "draw", "passes"]
    assert shown(65)[-1] == "no room for: passes spent"
    assert shown(50)[-1] == "no room for: passes spent, single draw"
    stacked = shown(65, stacked=True)
    assert [line.split() for line in stacked[5:7]] == [
        ["a-network-of-a-name", "100.0", "97.5", "163"],
        ["(72.2-100.0)", "(90.1-99.0)"],
    ]


def test_a_spare_column_goes_before_a_name_takes_three_lines():
    """A name takes two lines to keep a spare column; where it needs three, the column is left out."""
    columns = [
        TableColumn("perturbation", numeric=False),
        TableColumn("accuracy"),
        TableColumn("single", spare=1),
    ]
    row = ["noise linf 0.03137 (8/255)", "100.0 (61.0-100.0)", "100.0 (61.0-100.0)"]
    for width, lines, left_out in ((80, 1, False), (62, 2, False), (56, 1, True), (40, 2, True)):
        text = io.StringIO()
        console = Console(file=text, width=width)
        console.print(fit_to_width(console, "title", columns, [[row]]))
        body = [line for line in text.getvalue().splitlines() if "noise" in line or "8/255" in line]
        assert len(body) == lines, (width, text.getvalue())
        assert ("no room for: single" in text.getvalue()) == left_out
