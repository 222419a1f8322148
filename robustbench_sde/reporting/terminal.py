"""Print tables in the terminal."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.errors import counted
from robustbench_sde.reporting.table import CellText, fitted
from robustbench_sde.runs.words import summary_columns, summary_title
from robustbench_sde.sde.solvers import SOLVERS

#: Width of a pipe, which has none: wide enough for every column.
_PIPE_WIDTH = 160


def print_summary(summary: pd.DataFrame, *, folder: str, reused: int = 0) -> None:
    """Print the summary as a table, a line about its origin, and every status that is not ok."""
    console = make_console()
    console.print(summary_table(summary, console))
    print_footer(summary, folder=folder, reused=reused)


def print_footer(summary: pd.DataFrame, *, folder: str, reused: int) -> None:
    """Print how many cells were stored already, problems of cells and solvers, and the folder."""
    console = make_console()
    if reused:
        console.print(f"{reused} of {counted(len(summary), 'cell')} stored already", style="dim")
    for row in summary[summary["status"] != "ok"].to_dict("records"):
        text = f"{row['checkpoint']} {row['perturbation']}: {row['status']}"
        console.print(text, style="bold red")
    for solver in summary["solver"].unique():
        if solver in SOLVERS and SOLVERS[solver].warning:
            console.print(f"{solver}: {SOLVERS[solver].warning}", style="yellow")
    for kind in ("invalid", "failed"):
        count = int(summary["status"].str.startswith(f"{kind}:").sum())
        if count:
            console.print(f"{kind}: {count} of {len(summary)}", style="bold red")
    console.print(f"tables: {folder}", style="dim", soft_wrap=True)


def make_console() -> Console:
    """A console on stdout that does not squeeze tables in a pipe, and takes all text for text."""
    literal = partial(Console, highlight=False, markup=False, emoji=False)
    console = literal()
    return console if console.is_terminal else literal(width=_PIPE_WIDTH)


def summary_table(summary: pd.DataFrame, console: Console) -> Table:
    """Return a table with a line per cell, the checkpoint's name on its first; bad cells are red."""
    columns = summary_columns(summary)
    blocks: list[list[list[CellText]]] = []
    previous = None
    for row in summary.to_dict("records"):
        style = "" if row["status"] == "ok" else "red"
        name, *others = (Text(column.text(row), style) for column in columns)
        if name.plain != previous:
            blocks.append([])
        blocks[-1].append(["" if name.plain == previous else name, *others])
        previous = name.plain
    return fitted(console, summary_title(summary), columns, blocks)


def print_json(frame: pd.DataFrame) -> None:
    """Print rows as a JSON list; NaN and infinity become null."""
    print(json.dumps(json.loads(frame.to_json(orient="records")), indent=2))


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
