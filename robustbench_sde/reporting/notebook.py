"""Show results in notebooks: what a command prints, as HTML.

Importing this module teaches `shown.html_of` what each type of result looks like.
"""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.evaluation.audit.report import AuditReport
from robustbench_sde.regression.answer import Versus
from robustbench_sde.regression.verdict import Comparison
from robustbench_sde.reporting.audit import print_audit
from robustbench_sde.reporting.comparison import print_comparison
from robustbench_sde.reporting.terminal import printing_on
from robustbench_sde.reporting.versus import print_versus
from robustbench_sde.shown import HtmlCell, html_line, html_of, html_table

#: width of a console on which no column is left out and nothing is broken
_ENDLESS = 10_000


def html_of_printed(show: Callable[[], object]) -> str:
    """Call a function that prints on the terminal, and return what it prints as HTML, everything escaped.

    Tables have all columns. Colours are left out, since a notebook may be light or dark; bold stays.
    """
    console = _Collector()
    with printing_on(console):
        show()
    return "".join(console.parts)


class _Collector(Console):
    """Console that keeps tables and lines as HTML instead of printing them."""

    def __init__(self) -> None:
        super().__init__(width=_ENDLESS, highlight=False, markup=False, emoji=False, quiet=True)
        self.parts: list[str] = []

    def print(self, *things: Any, style: Any = None, **options: Any) -> None:
        for thing in things:
            if isinstance(thing, Table):
                self.parts.append(_table(thing))
            else:
                plain = thing.plain if isinstance(thing, Text) else str(thing)
                spans = [str(span.style) for span in thing.spans] if isinstance(thing, Text) else []
                styles = " ".join([str(style or ""), str(getattr(thing, "style", "")), *spans])
                self.parts.append(html_line(plain, strong="bold" in styles))


def _table(table: Table) -> str:
    headings = [(_plain(column.header), column.justify == "right") for column in table.columns]
    cells = zip(*(list(column.cells) for column in table.columns), strict=True)
    blocks: list[list[list[HtmlCell]]] = [[]]
    for row, line in zip(table.rows, cells, strict=True):
        blocks[-1].append([HtmlCell(_plain(cell), strong=_strong(cell)) for cell in line])
        if row.end_section:
            blocks.append([])
    return html_table(_plain(table.title or ""), headings, [block for block in blocks if block])


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _strong(cell: Any) -> bool:
    """Whether a cell is printed in a colour that warns, or bold: colours are left out here."""
    return isinstance(cell, Text) and any(word in str(cell.style) for word in ("bold", "red", "yellow"))


@html_of.register
def _(comparison: Comparison) -> str:
    return html_of_printed(lambda: print_comparison(comparison))


@html_of.register
def _(versus: Versus) -> str:
    return html_of_printed(lambda: print_versus(versus))


@html_of.register
def _(report: AuditReport) -> str:
    return html_of_printed(lambda: print_audit(report, path=None))
