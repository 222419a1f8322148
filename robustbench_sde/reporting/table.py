"""Fit tables to any width of a terminal: no number is cut, and names are broken only if they must be."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.runs.words import TableColumn

#: Lengths above which a word of a name may be broken: usually, and if nothing else helps.
_LONG_WORDS = (24, 12)

CellText = str | Text


def fit_to_width(
    console: Console,
    title: str,
    columns: Sequence[TableColumn],
    blocks: Sequence[Sequence[Sequence[CellText]]],
    *,
    stacked: bool = False,
) -> Table:
    """Return a table as wide as the console allows.

    In a narrow one headings take several lines and names two, then columns are left out, which a line below
    says. Names break between words, or inside a word if nothing else helps.

    Args:
        console: console that it will be printed on.
        title: line above the table.
        columns: headings from left to right.
        blocks: blocks of lines, each with one cell a column; a blank line separates blocks.
        stacked: whether intervals go below their estimates before a column is left out.
    """
    spare = sorted((column for column in columns if column.spare), key=lambda column: -column.spare)
    attempts = [(False, False, 0, _LONG_WORDS[0]), (True, False, 0, _LONG_WORDS[0])]
    attempts += [(True, stacked, count, _LONG_WORDS[0]) for count in range(not stacked, len(spare) + 1)]
    attempts += [(True, stacked, len(spare), _LONG_WORDS[1])]
    endless = console.options.update(width=10_000)  # a measure is never wider than its console
    for tall, broken, count, long in attempts:
        left_out = spare[:count]
        kept = [index for index, column in enumerate(columns) if column not in left_out]
        texts = [
            [[_text(line[i], broken and columns[i].numeric) for i in kept] for line in block]
            for block in blocks
        ]
        table = _table(title, [columns[index] for index in kept], texts, tall=tall, long=long)
        if left_out:
            names = dict.fromkeys(column.heading.partition(" (")[0] for column in left_out)
            table.caption, table.caption_justify = f"no room for: {', '.join(names)}", "left"
        width = console.measure(table, options=endless)
        if width.minimum <= console.width:
            break
    if width.maximum > console.width:
        _share_out(table, console.width - width.minimum)
    return table


def _share_out(table: Table, room: int) -> None:
    """Return the widths of the names; the first get what they need. Rich would go below their minimum."""
    for column in table.columns:
        least = column.min_width or 0
        given = max(0, min(room, column.max_width - least)) if column.max_width else 0
        column.width, column.max_width = least + given, None
        room -= given


def _text(cell: CellText, broken: bool) -> Text:
    text = cell if isinstance(cell, Text) else Text(cell)
    return Text(text.plain.replace(" (", "\n(", 1), text.style) if broken else text


def _table(
    title: str,
    columns: Sequence[TableColumn],
    blocks: Sequence[Sequence[Sequence[Text]]],
    *,
    tall: bool,
    long: int,
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        heading = _tall(column.heading) if tall else column.heading
        texts = [heading, *(line[index].plain for block in blocks for line in block)]
        whole = max(len(part) for text in texts for part in text.splitlines() or [""])
        if column.numeric:  # rich breaks at spaces
            table.add_column(heading, justify="right", no_wrap=True, min_width=whole)
        else:
            word = max(len(word) for text in texts for word in text.split() or [""])
            halves = max((_half(text) for text in texts[1:]), default=0) if long == _LONG_WORDS[0] else 0
            least = min(max(word, halves), long)
            table.add_column(heading, overflow="fold", min_width=least, max_width=whole)
    for block in blocks:
        for line in block:
            table.add_row(*line)
        table.add_section()
    return table


def _half(name: str) -> int:
    """Return the width at which a name takes two lines: columns are left out before it takes three."""
    words = name.split()
    cuts = [(len(" ".join(words[:cut])), len(" ".join(words[cut:]))) for cut in range(1, len(words))]
    return min(map(max, cuts), default=len(name))


def _tall(heading: str) -> str:
    """Break a heading into lines: an interval's level below, other headings in two even halves."""
    if "(" in heading:
        return heading.replace(" (", "\n(")
    words = heading.split()
    halves = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    return "\n".join(min(halves, key=lambda half: max(map(len, half)))) if halves else heading
