"""Tables on the terminal."""

import json
import math
from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Width of a pipe, which has none: wide enough for every column.
_PIPE_WIDTH = 160


def print_summary(summary: pd.DataFrame, *, folder: str, reused: int = 0) -> None:
    """The summary as a table, a line about its provenance, and every status that is not ok."""
    make_console().print(summary_table(summary))
    print_footer(summary, folder=folder, reused=reused)


def print_footer(summary: pd.DataFrame, *, folder: str, reused: int) -> None:
    """How many cells were there before, every status that is not ok, and where the files are."""
    console = make_console()
    if reused:
        console.print(f"{reused} of {len(summary)} cells were stored already", style="dim")
    for row in summary[summary["status"] != "ok"].to_dict("records"):
        text = f"{row['checkpoint']} {row['perturbation']}: {row['status']}"
        console.print(text, style="bold red", markup=False)
    console.print(f"tables: {folder}", style="dim", markup=False, soft_wrap=True)


def make_console() -> Console:
    """A console on stdout that does not squeeze tables in a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def summary_table(summary: pd.DataFrame) -> Table:
    """One line per cell, the checkpoint's name on its first."""
    first = summary.iloc[0]
    table = Table(
        title=f"{first['dataset']} · {first['images']} images · {summary['score_draws'].max()} score draws "
        f"({first['rule']}) · seed {first['seed']}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("checkpoint", overflow="fold")
    table.add_column("perturbation", overflow="fold")
    for heading in ("accuracy (95 %)", "over noise", "single draw (95 %)", "undecided", "passes/image"):
        table.add_column(heading, justify="right")
    minimal = bool(summary["distance_median"].notna().any())
    if minimal:
        table.add_column("distance (quartiles)", justify="right")
    previous = None
    for row in summary.to_dict("records"):
        cells = [
            "" if row["checkpoint"] == previous else row["checkpoint"],
            perturbation_text(row),
            interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"]),
            span(row["noise_low"], row["noise_high"]),
            interval(row["single_draw_accuracy"], row["single_draw_low"], row["single_draw_high"]),
            "" if math.isnan(row["undecided"]) else f"{row['undecided']:.0%}",
            "" if math.isnan(row["forward_passes"]) else f"{row['forward_passes']:.0f}",
        ]
        if minimal:
            cells.append(_distance(row))
        if previous not in (None, row["checkpoint"]):
            table.add_section()
        table.add_row(*cells, style=None if row["status"] == "ok" else "red")
        previous = row["checkpoint"]
    return table


def perturbation_text(row: dict[Hashable, Any]) -> str:
    """``pgd linf 0.03 (7.65/255)``: the budget in both ways of writing."""
    if not row["norm"]:
        level = "" if math.isnan(row["severity"]) else f" {row['severity']:g}"
        return f"{row['perturbation']}{level}"
    if row["perturbation"] == "control":
        return "control eps 0"
    if math.isnan(row["eps"]):
        return f"{row['perturbation']} {row['norm']} smallest"
    return f"{row['perturbation']} {row['norm']} {row['eps']:.4g} ({row['eps'] * 255:.4g}/255)"


def interval(estimate: float, low: float, high: float) -> str:
    """Percent with its interval; empty where there is no number."""
    return "" if math.isnan(estimate) else f"{estimate:.1%}".rstrip("%") + f" {span(low, high)}"


def span(low: float, high: float) -> str:
    """``(80.5-90.1)`` in percent."""
    return "" if math.isnan(low) else f"({100 * low:.1f}-{100 * high:.1f})"


def _distance(row: dict[Hashable, Any]) -> str:
    if math.isnan(row["distance_median"]):
        return ""
    return f"{row['distance_median']:.3g} ({row['distance_q25']:.3g}-{row['distance_q75']:.3g})"


def print_json(frame: pd.DataFrame) -> None:
    """Rows as a JSON list; NaN and infinity become null."""
    print(json.dumps(json.loads(frame.to_json(orient="records")), indent=2))


def print_entries(entries: dict[str, Any], *, as_json: bool) -> None:
    """Names and what they are, one a line; nested values as `a.b`."""
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in _flat(entries):
        table.add_row(Text(name), Text(value))
    make_console().print(table)


def _flat(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in entries.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
