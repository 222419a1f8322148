"""Fit tables to any width of a terminal: no number is cut, and names are broken only if they must be."""

from collections.abc import Sequence
from functools import partial

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.reporting.long_table import LongTable
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
    distinct = [
        list(dict.fromkeys(_text(line[place]).plain for block in blocks for line in block))
        for place in range(len(columns))
    ]
    for tall, broken, count, long in attempts:
        left_out = spare[:count]
        kept = [index for index, column in enumerate(columns) if column not in left_out]
        narrow = {index: broken and columns[index].numeric for index in kept}
        texts = [[_broken(text) if narrow[index] else text for text in distinct[index]] for index in kept]
        make = partial(_table, title, [columns[index] for index in kept], texts, tall=tall, long=long)
        probe = make()
        for row in zip(*map(_widest, texts), strict=True):
            probe.add_row(*map(Text, row))
        width = console.measure(probe, options=endless)
        if width.minimum <= console.width:
            break
    table = make()
    if left_out:
        names = dict.fromkeys(column.heading.partition(" (")[0] for column in left_out)
        table.caption, table.caption_justify = f"no room for: {', '.join(names)}", "left"
    if width.maximum > console.width:
        _share_out(table, console.width - width.minimum)
    else:
        for column, own in zip(table.columns, texts, strict=True):
            widest = max(map(_line_width, [str(column.header), *own]))
            column.width = min(max(widest, column.min_width or 0), column.max_width or widest)
    for block in blocks:
        for line in block:
            cells = ((_text(line[index]), narrow[index]) for index in kept)
            table.add_row(*(Text(_broken(cell.plain), cell.style) if cut else cell for cell, cut in cells))
        table.add_section()
    return table


def _widest(texts: Sequence[str]) -> tuple[str, str]:
    """Return the texts with the longest line and the longest word, on which the width of a column depends."""
    return max(texts, key=_line_width, default=""), max(texts, key=_word_width, default="")


def _line_width(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)


def _word_width(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _share_out(table: Table, room: int) -> None:
    """Return the widths of the names; the first get what they need. Rich would go below their minimum."""
    for column in table.columns:
        least = column.min_width or 0
        given = max(0, min(room, column.max_width - least)) if column.max_width else 0
        column.width, column.max_width = least + given, None
        room -= given


def _text(cell: CellText) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _broken(text: str) -> str:
    """Put an interval below its estimate."""
    return text.replace(" (", "\n(", 1)


def _table(
    title: str, columns: Sequence[TableColumn], texts: Sequence[Sequence[str]], *, tall: bool, long: int
) -> LongTable:
    """Return a table without lines whose columns suit these texts."""
    table = LongTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column, own in zip(columns, texts, strict=True):
        heading = _tall(column.heading) if tall else column.heading
        every = [heading, *own]
        whole = max(len(part) for text in every for part in text.splitlines() or [""])
        if column.numeric:  # rich breaks at spaces
            table.add_column(heading, justify="right", no_wrap=True, min_width=whole)
        else:
            word = max(len(word) for text in every for word in text.split() or [""])
            halves = max((_half(text) for text in own), default=0) if long == _LONG_WORDS[0] else 0
            least = min(max(word, halves), long)
            table.add_column(heading, overflow="fold", min_width=least, max_width=whole)
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
