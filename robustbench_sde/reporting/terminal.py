"""Print tables in the terminal."""

import csv
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from functools import partial
from itertools import takewhile
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.choices import TableFormat
from robustbench_sde.errors import counted
from robustbench_sde.reporting.table import CellText, fit_to_width
from robustbench_sde.runs.words import (
    TableColumn,
    markdown,
    summary_columns,
    summary_title,
)
from robustbench_sde.storage.run_state import RunState
from robustbench_sde.storage.runs_here import RunHere
from robustbench_sde.storage.spreadsheet import as_text

#: console in place of stdout (`printing_on`)
_CONSOLE: ContextVar[Console | None] = ContextVar("console", default=None)
#: width of a pipe, enough for every column
_PIPE_WIDTH = 160
#: blanks at the ends of lines
_TRAILING = re.compile(r" +(?=\n|\Z)")
#: width of a table that leaves no column out
_ENDLESS = 10_000
#: how tables are printed
_format: TableFormat = "table"


def print_summary(
    summary: pd.DataFrame, *, folder: str | None, reused: int = 0, tries: int | None = None
) -> None:
    """Print the summary as a table, a line about its origin, and every status that is not ok.

    Args:
        summary: rows of a run; with columns `survives_K` if `tries` is K.
        folder: where it is stored; None: nowhere.
        reused: number of rows that were stored already.
        tries: number of submissions of a column of the table; None: no such column.
    """
    console = make_console()
    console.print(summary_table(summary, console, tries=tries))
    print_footer(summary, folder=folder, reused=reused)


def print_footer(summary: pd.DataFrame, *, folder: str | None, reused: int) -> None:
    """Print how many cells were stored already, problems of cells and solvers, and the folder."""
    console = make_console()
    if reused:
        console.print(f"{reused} of {counted(len(summary), 'cell')} stored already", style="dim")
    for row in summary[summary["status"] != "ok"].to_dict("records"):
        text = f"{row['checkpoint']} {row['perturbation']}: {row['status']}"
        console.print(text, style="bold red")
    for warning in _solver_warnings(summary["solver"].unique()):
        console.print(warning, style="yellow")
    for kind in ("invalid", "failed", "suspect"):
        count = int(summary["status"].str.startswith(f"{kind}:").sum())
        if count:
            console.print(f"{kind}: {count} of {len(summary)}", style="bold red")
    if folder is not None:
        where = f"tables: {folder}; for a page with figures: sde-bench report {shlex.quote(folder)}"
        console.print(where, style="dim", soft_wrap=True)


def _solver_warnings(solvers: Iterable[str]) -> Iterator[str]:
    """Yield what to know about solvers; `euler` has no warning, and stored tables are shown without torch."""
    others = [solver for solver in solvers if solver not in ("", "euler")]
    if not others:
        return
    from robustbench_sde.sde.solvers import SOLVERS

    for solver in others:
        if solver in SOLVERS and SOLVERS[solver].warning:
            yield f"{solver}: {SOLVERS[solver].warning}"


class _WithoutTrailingBlanks(io.StringIO):
    """Text file that writes to stdout, without the blanks with which Rich fills lines."""

    def write(self, text: str) -> int:
        """Write a text whose lines are whole."""
        return sys.stdout.write(_TRAILING.sub("", text))

    def flush(self) -> None:
        """Flush stdout."""
        sys.stdout.flush()


class _Written(Console):
    """Console that writes tables to stdout as CSV or Markdown, and everything else to stderr."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Write tables, and print other objects on stderr."""
        for each in objects:
            if not isinstance(each, Table):
                super().print(each, **options)
            elif _format == "md":
                title = f"{_plain_text(each.title)}\n\n" if each.title else ""
                print(title + markdown(pd.DataFrame(_rows(each), columns=_headings(each))))
            else:
                rows = [list(map(as_text, row)) for row in _rows(each)]
                csv.writer(sys.stdout, lineterminator="\n").writerows([_headings(each), *rows])


def print_tables_as(asked: TableFormat) -> None:
    """Choose how the tables of this program are printed: for people, or as CSV or Markdown."""
    global _format
    _format = asked


def prints_csv() -> bool:
    """Whether tables are printed as CSV (`print_tables_as`)."""
    return _format == "csv"


def _headings(table: Table) -> list[str]:
    if not table.show_header:
        return ["name", "value"][: len(table.columns)]
    return [_plain_text(column.header) for column in table.columns]


def _rows(table: Table) -> list[list[str]]:
    """Return the texts of a table; names that are printed once for several lines stand in each."""
    rows: list[list[str]] = []
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        texts = [_plain_text(cell) for cell in cells]
        filled = sum(1 for _ in takewhile(lambda text: not text, texts)) if rows else 0
        rows.append([*(rows[-1][:filled] if rows else []), *texts[filled:]])
    return rows


def _plain_text(cell: Any) -> str:
    return " ".join((cell.plain if isinstance(cell, Text) else str(cell)).split())


def make_console() -> Console:
    """Return a console on stdout that prints texts as they are, or that of `print_tables_as`.

    In a pipe it is as wide as the environment variable COLUMNS says, or wide enough for every column.
    """
    other = _CONSOLE.get()
    if other is not None:
        return other
    if _format in ("csv", "md"):
        return _Written(width=_ENDLESS, stderr=True, highlight=False, markup=False, emoji=False)
    literal = partial(Console, highlight=False, markup=False, emoji=False)
    console = literal()
    if console.is_terminal:
        return console
    asked = os.environ.get("COLUMNS", "").isdecimal()
    return literal(width=None if asked else _PIPE_WIDTH, file=_WithoutTrailingBlanks())


@contextmanager
def printing_on(console: Console) -> Iterator[None]:
    """Print on another console than stdout within a `with` block."""
    token = _CONSOLE.set(console)
    try:
        yield
    finally:
        _CONSOLE.reset(token)


def summary_table(summary: pd.DataFrame, console: Console, *, tries: int | None = None) -> Table:
    """Return a table with a line per cell, the checkpoint's name on its first; bad cells are red."""
    columns = summary_columns(summary, tries=tries)
    blocks: list[list[list[CellText]]] = []
    previous = None
    for row in summary.to_dict("records"):
        style = "" if row["status"] == "ok" else "red"
        name, *others = (Text(column.text(row), style) for column in columns)
        if name.plain != previous:
            blocks.append([])
        blocks[-1].append(["" if name.plain == previous else name, *others])
        previous = name.plain
    return fit_to_width(console, summary_title(summary), columns, blocks)


def print_sentence(console: Console, text: str | Text, style: str = "") -> None:
    """Print a sentence: on a terminal its lines break between words, in a pipe it is one line."""
    console.print(text, style=style, markup=False, soft_wrap=not console.is_terminal)


def print_json(frame: pd.DataFrame, state: RunState | None = None) -> None:
    """Print rows as a JSON list; NaN and infinity become null.

    Args:
        frame: the rows.
        state: state of an unfinished run, which is printed as an object with the list as `rows`.
    """
    rows = json.loads(frame.to_json(orient="records"))
    print(json.dumps(rows if state is None else {**state.described(), "rows": rows}, indent=2))


def print_runs(runs: Sequence[RunHere], *, as_json: bool) -> None:
    """Print one line for each run: state, cells, lowest accuracy, date and command."""
    if as_json:
        print(json.dumps([asdict(run) for run in runs], indent=2))
        return
    columns = [
        TableColumn("run", numeric=False),
        TableColumn("state", numeric=False),
        TableColumn("cells"),
        TableColumn("lowest accuracy"),
        TableColumn("changed", spare=1),
        TableColumn("command", numeric=False, spare=2),
    ]
    lines: list[list[CellText]] = [
        [
            run.name,
            run.state,
            str(run.cells) if run.cells == run.planned else f"{run.cells} of {run.planned}",
            "" if run.lowest is None else f"{100 * run.lowest:.1f}",
            run.changed,
            run.command,
        ]
        for run in runs
    ]
    if lines:
        console = make_console()
        console.print(fit_to_width(console, "runs in reports/, the last one first", columns, [lines]))


def print_entries(entries: dict[str, Any], *, as_json: bool) -> None:
    """Print names with their values, one a line; nested values as `a.b`."""
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    console = make_console()
    lines = list(flat(entries))
    longest = max((len(name) for name, _ in lines), default=0)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", overflow="fold", min_width=min(longest, console.width // 2))
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(Text(name), Text(value))
    console.print(table)


def flat(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return nested entries as pairs of `a.b` and text; groups in a list are numbered."""
    for name, value in entries.items():
        if isinstance(value, list) and value and all(isinstance(own, dict) for own in value):
            value = {str(number): own for number, own in enumerate(value, 1)}
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: object) -> str:
    """Format a value for people: numbers with six digits, and a dash for None."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
