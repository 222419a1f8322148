"""Tables on the terminal."""

import json
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.sde.solvers import SOLVERS

#: Width of a pipe, which has none: wide enough for every column.
_PIPE_WIDTH = 160
#: Names are folded to that width before a column of numbers is left out.
_NAME_WIDTH = 15


def print_summary(summary: pd.DataFrame, *, folder: str, reused: int = 0) -> None:
    """The summary as a table, a line about its provenance, and every status that is not ok."""
    console = make_console()
    console.print(summary_table(summary, console))
    print_footer(summary, folder=folder, reused=reused)


def print_footer(summary: pd.DataFrame, *, folder: str, reused: int) -> None:
    """How many cells were there before, what is wrong with cells and solvers, and where the files are."""
    console = make_console()
    if reused:
        console.print(f"{reused} of {len(summary)} cells were stored already", style="dim")
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
    """One line per cell, the checkpoint's name on its first.

    No number is cut: where the console is too narrow, headings take two lines, then columns are left out, and
    that is said.
    """
    columns = summary_columns(summary)
    spare = sorted((column for column in columns if column.spare), key=lambda column: -column.spare)
    endless = console.options.update(width=10_000)  # a measure is never wider than its console
    table = _table(summary, columns, one_line=True)
    for count in range(len(spare) + 1):
        if console.measure(table, options=endless).minimum <= console.width:
            break
        left_out = spare[:count]
        table = _table(summary, [column for column in columns if column not in left_out])
        if left_out:
            names = ", ".join(column.heading.partition(" (")[0] for column in left_out)
            table.caption, table.caption_justify = f"no room for: {names}", "left"
    return table


def _table(summary: pd.DataFrame, columns: Sequence["SummaryColumn"], *, one_line: bool = False) -> Table:
    table = Table(title=summary_title(summary), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    rows = summary.to_dict("records")
    texts = [[column.text(row) for column in columns] for row in rows]
    for index, column in enumerate(columns):
        if not column.numeric:
            table.add_column(column.heading, overflow="fold", min_width=_NAME_WIDTH)
            continue
        heading = column.heading
        if not one_line:
            heading = heading.replace(" (", "\n(") if "(" in heading else heading.replace(" ", "\n")
        whole = max(map(len, [*heading.splitlines(), *(own[index] for own in texts)]))
        table.add_column(heading, justify="right", no_wrap=True, min_width=whole)  # rich breaks at spaces
    previous = None
    for row, (name, *others) in zip(rows, texts, strict=True):
        if previous not in (None, name):
            table.add_section()
        table.add_row(
            "" if name == previous else name, *others, style=None if row["status"] == "ok" else "red"
        )
        previous = name
    return table


@dataclass(frozen=True)
class SummaryColumn:
    """A column of the summary as people read it: on the terminal, in Markdown, LaTeX and on the page."""

    heading: str
    #: what stands in a row's cell
    text: Callable[[dict[Hashable, Any]], str]
    #: the column of the table by which it sorts
    key: str
    numeric: bool = True
    #: a narrow terminal leaves out the highest first; 0 is always there
    spare: int = 0


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
        else f"{most} score draw{'s' if most > 1 else ''}"
    )
    return (
        f"{all_of('dataset')} · {all_of('images')} images · {draws} "
        f"({all_of('rule')}) · seed {all_of('seed')}"
    )


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
    levels = f" ({row['eps'] * 255:.4g}/255)" if row["norm"] == "linf" else ""
    return f"{row['perturbation']} {row['norm']} {row['eps']:.4g}{levels}"


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
    for name, value in flat(entries):
        table.add_row(Text(name), Text(value))
    make_console().print(table)


def flat(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested entries as pairs of `a.b` and text."""
    for name, value in entries.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
