"""Tables on the terminal."""

import json
import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.errors import counted
from robustbench_sde.reporting.table import Cell, Column, fitted
from robustbench_sde.sde.solvers import SOLVERS

#: Width of a pipe, which has none: wide enough for every column.
_PIPE_WIDTH = 160


def print_summary(summary: pd.DataFrame, *, folder: str, reused: int = 0) -> None:
    """The summary as a table, a line about its provenance, and every status that is not ok."""
    console = make_console()
    console.print(summary_table(summary, console))
    print_footer(summary, folder=folder, reused=reused)


def print_footer(summary: pd.DataFrame, *, folder: str, reused: int) -> None:
    """How many cells were there before, what is wrong with cells and solvers, and where the files are."""
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
    """One line per cell, the checkpoint's name on its first; what is not ok is red."""
    columns = summary_columns(summary)
    blocks: list[list[list[Cell]]] = []
    previous = None
    for row in summary.to_dict("records"):
        style = "" if row["status"] == "ok" else "red"
        name, *others = (Text(column.text(row), style) for column in columns)
        if name.plain != previous:
            blocks.append([])
        blocks[-1].append(["" if name.plain == previous else name, *others])
        previous = name.plain
    return fitted(console, summary_title(summary), columns, blocks)


@dataclass(frozen=True)
class SummaryColumn(Column):
    """A column of the summary as people read it: on the terminal, in Markdown, LaTeX and on the page."""

    #: what stands in a row's cell
    text: Callable[[dict[Hashable, Any]], str]
    #: the column of the table by which it sorts
    key: str


def summary_columns(summary: pd.DataFrame) -> list[SummaryColumn]:
    """The columns that this summary needs: settings only where a checkpoint has several."""
    named = [
        SummaryColumn("checkpoint", lambda row: str(row["checkpoint"]), "checkpoint", numeric=False),
        SummaryColumn("perturbation", perturbation_text, "perturbation", numeric=False),
    ]
    settings = [
        SummaryColumn("sigma", lambda row: f"{row['sigma']:g}", "sigma"),
        SummaryColumn("solver", lambda row: str(row["solver"]), "solver", numeric=False),
        SummaryColumn("solver steps", lambda row: str(row["solver_steps"]), "solver_steps"),
        SummaryColumn("score draws", lambda row: str(row["score_draws"]), "score_draws"),
        SummaryColumn("rule", lambda row: str(row["rule"]), "rule", numeric=False),
        SummaryColumn("seed", lambda row: str(row["seed"]), "seed"),
    ]
    several = [column for column in settings if summary.groupby("checkpoint")[column.key].nunique().max() > 1]
    numbers = [
        SummaryColumn("accuracy (95 %)", _interval_of("accuracy", "accuracy"), "accuracy"),
        SummaryColumn(
            "over noise", lambda row: span(row["noise_low"], row["noise_high"]), "noise_low", spare=4
        ),
        SummaryColumn(
            "single draw (95 %)",
            _interval_of("single_draw_accuracy", "single_draw"),
            "single_draw_accuracy",
            spare=1,
        ),
        SummaryColumn("undecided", _number("undecided", ".0%"), "undecided", spare=2),
        SummaryColumn("passes/image", _number("forward_passes", ".0f"), "forward_passes", spare=3),
    ]
    if summary["distance_median"].notna().any():
        numbers.append(SummaryColumn("distance (quartiles)", _distance, "distance_median"))
    return [*named, *several, *numbers]


def written_columns(summary: pd.DataFrame) -> list[SummaryColumn]:
    """The columns in files, which have no line below the table for statuses that are not ok."""
    status = SummaryColumn("status", lambda row: str(row["status"]), "status", numeric=False)
    return [*summary_columns(summary), *([status] if (summary["status"] != "ok").any() else [])]


def summary_title(summary: pd.DataFrame) -> str:
    """What was measured, on how many images, by which rule and from which seed; in a line."""

    def all_of(name: str) -> str:
        return ", ".join(map(str, summary[name].unique()))

    most, mean = summary["score_draws"].max(), summary["mean_score_draws"].max()
    draws = (
        f"at most {most} score draws, {mean:.0f} on average"
        if 1 < mean < most
        else counted(most, "score draw")
    )
    images = counted(all_of("images"), "image")
    return f"{all_of('dataset')} · {images} · {draws} ({all_of('rule')}) · seed {all_of('seed')}"


def _interval_of(estimate: str, ends: str) -> Callable[[dict[Hashable, Any]], str]:
    return lambda row: interval(row[estimate], row[f"{ends}_low"], row[f"{ends}_high"])


def _number(name: str, form: str) -> Callable[[dict[Hashable, Any]], str]:
    return lambda row: "" if math.isnan(row[name]) else format(row[name], form)


def perturbation_text(row: dict[Hashable, Any]) -> str:
    """``pgd linf 0.03 (7.65/255)``: a budget in grey levels as well, ``pgd l2 0.5``."""
    if not row["norm"]:
        level = "" if math.isnan(row["severity"]) else f" {row['severity']:g}"
        return f"{row['perturbation']}{level}"
    if row["perturbation"] == "control":
        return "control eps 0"
    if math.isnan(row["eps"]):
        return f"{row['perturbation']} {row['norm']} smallest"
    return f"{row['perturbation']} {budget_text(row['norm'], row['eps'])}"


def budget_text(norm: str, eps: float) -> str:
    """``linf 0.03 (7.65/255)``, and ``l2 0.5``, which no pixel changes by."""
    return f"{norm} {eps:.4g}{f' ({255 * eps:.4g}/255)' if norm == 'linf' else ''}"


def interval(estimate: float, low: float, high: float) -> str:
    """Percent with its interval; empty where there is no number."""
    return "" if math.isnan(estimate) else f"{estimate:.1%}".rstrip("%") + f" {span(low, high)}"


def span(low: float, high: float) -> str:
    """``(80.5-90.1)`` in percent, ``(-3.1 to 2.0)`` where it begins below 0."""
    return "" if math.isnan(low) else f"({100 * low:.1f}{' to ' if low < 0 else '-'}{100 * high:.1f})"


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
    """Nested entries as pairs of `a.b` and text; of a list of groups each is numbered."""
    for name, value in entries.items():
        if isinstance(value, list) and value and all(isinstance(own, dict) for own in value):
            value = {str(number): own for number, own in enumerate(value, 1)}
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: object) -> str:
    """As people write it: six digits, and a dash for nothing."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
