"""Render tables of thousands of lines: rich wraps and styles every cell, which takes a millisecond a line."""

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

#: number of lines from which a table is long
_LONG = 100


class LongTable(Table):
    """Table with columns of known width; a long one writes its lines itself, with the letters of rich's."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the pieces of the table."""
        room = options.max_width - self._extra_width
        known = [column.width or 0 for column in self.columns]
        paddings = [self._get_padding_width(place) for place in range(len(known))]
        if len(self.rows) < _LONG or not all(known) or sum(known) + sum(paddings) > room:
            yield from super().__rich_console__(console, options)
            return
        *head, bottom, end = self._without_lines(console, options)
        yield from head
        yield from self._lines(console, known)
        yield from (bottom, end)
        if self.caption:
            caption = Text(str(self.caption), style="table.caption")
            yield from console.render(caption, options.update(width=sum(known) + sum(paddings)))

    def _without_lines(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        """Return the title, the headings and the edge below, as rich writes them."""
        empty = Table(
            title=self.title, title_justify=self.title_justify, box=self.box, pad_edge=self.pad_edge
        )
        for column in self.columns:
            empty.add_column(column.header, justify=column.justify, width=column.width)
        return console.render(empty, options)

    def _lines(self, console: Console, widths: list[int]) -> Iterator[Segment]:
        last = len(self.rows) - 1
        cells = zip(*(column.cells for column in self.columns), strict=True)
        for place, (row, line) in enumerate(zip(self.rows, cells, strict=True)):
            yield from _line(console, self.columns, widths, line)
            if row.end_section and place != last:
                yield Segment.line()


def _line(
    console: Console, columns: Iterable[Column], widths: list[int], line: tuple[RenderableType, ...]
) -> Iterator[Segment]:
    """Yield one line of a table, which is as high as its highest cell."""
    texts = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in line]
    styles = [console.get_style(text.style) for text in texts]
    parts = [
        _broken(console, column, width, text)
        for column, width, text in zip(columns, widths, texts, strict=True)
    ]
    for height in range(max(map(len, parts))):
        for place, (part, width, style) in enumerate(zip(parts, widths, styles, strict=True)):
            yield Segment("   " if place else " ")
            yield Segment(part[height] if height < len(part) else " " * width, style or Style.null())
        yield Segment.line()


def _broken(console: Console, column: Column, width: int, text: Text) -> list[str]:
    """Return the lines of a cell, each as wide as its column."""
    lines = [text.plain]
    if "\n" in text.plain or cell_len(text.plain) > width:
        wrapped = text.wrap(
            console, width, justify=column.justify, overflow=column.overflow, no_wrap=column.no_wrap
        )
        lines = [each.plain.strip() if column.justify == "right" else each.plain.rstrip() for each in wrapped]
    blanks = [" " * (width - cell_len(each)) for each in lines]
    right = column.justify == "right"
    return [blank + each if right else each + blank for each, blank in zip(lines, blanks, strict=True)]
