"""What a run of corruptions shows: two tables and a figure, from the table of `suite.corruption`."""

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from robustbench_sde.evaluation.corruption_summary import CLEAN, MEAN
from robustbench_sde.reporting.figures import Drawn, draw_lines, save, styled
from robustbench_sde.reporting.terminal import interval, make_console, print_footer
from robustbench_sde.results.run_folder import RunFolder

Row = dict[Hashable, Any]


def print_corruptions(
    corruptions: pd.DataFrame, summary: pd.DataFrame, *, folder: str, reused: int, reference: str | None
) -> None:
    """For each checkpoint the accuracy by corruption and severity, then the means of all."""
    console = make_console()
    for name, own in corruptions.groupby("checkpoint", sort=False):
        console.print(_by_severity(str(name), own, summary))
    console.print(_means(corruptions, reference))
    print_footer(summary, folder=folder, reused=reused)


def _by_severity(name: str, own: pd.DataFrame, summary: pd.DataFrame) -> Table:
    """Corruptions are rows, severities columns, and every accuracy has its interval."""
    first = summary[summary["checkpoint"] == name].iloc[0]
    draws = "1 score draw" if first["score_draws"] == 1 else f"{first['score_draws']} score draws"
    table = Table(
        title=f"{name} · {first['dataset']} · {first['images']} images · {draws} ({first['rule']}) · "
        f"seed {first['seed']} · accuracy (95 %)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    severities = sorted(own["severity"].dropna().unique())
    table.add_column("corruption", overflow="fold")
    for severity in severities:
        table.add_column(f"severity {severity:g}", justify="right")
    table.add_column("mean", justify="right")
    cells = {
        (row["corruption"], None if math.isnan(row["severity"]) else row["severity"]): _accuracy(row)
        for row in own.to_dict("records")
    }
    for corruption in own["corruption"].unique():
        if corruption == MEAN:
            table.add_section()
        graded = [cells.get((corruption, severity), "") for severity in severities]
        whole = cells.get((corruption, None), "")
        table.add_row(corruption, *graded, whole or next(filter(None, graded), ""))
    return table


def _means(corruptions: pd.DataFrame, reference: str | None) -> Table:
    """One line per checkpoint and severity, of the means over corruptions."""
    table = Table(title="mean over corruptions", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("checkpoint", overflow="fold")
    table.add_column("severity", justify="right")
    for heading in ("accuracy (95 %)", "single draw (95 %)", "error", "error - clean (95 %)"):
        table.add_column(heading, justify="right")
    for heading in ("ECE", "Brier", "undecided"):
        table.add_column(heading, justify="right")
    if reference is not None:
        table.add_column(f"mCE over {reference}", justify="right", overflow="fold")
    previous = None
    for row in corruptions[corruptions["corruption"].isin([CLEAN, MEAN])].to_dict("records"):
        if previous not in (None, row["checkpoint"]):
            table.add_section()
        name = "" if row["checkpoint"] == previous else row["checkpoint"]
        previous = row["checkpoint"]
        level = CLEAN if row["corruption"] == CLEAN else _level(row)
        if row["status"] != "ok":
            table.add_row(name, level, "invalid", style="red")
            continue
        table.add_row(
            name,
            level,
            _accuracy(row),
            interval(row["single_draw_accuracy"], row["single_draw_low"], row["single_draw_high"]),
            f"{100 * (1 - row['accuracy']):.1f}",
            interval(row["relative_error"], row["relative_low"], row["relative_high"]),
            f"{row['ece']:.3f}",
            f"{row['brier']:.3f}",
            f"{row['undecided']:.0%}",
            *([interval(row["ce"], row["ce_low"], row["ce_high"])] if reference is not None else []),
        )
    return table


def corruption_figure(corruptions: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Write `figures/corruptions`: accuracy, mean over corruptions, against severity, with 95 % bands.

    Nothing is written where there are no severities.
    """
    means = corruptions[(corruptions["corruption"] == MEAN) & corruptions["severity"].notna()]
    if means.empty:
        return []
    count, images = int(means["cells"].max()), int(corruptions["images"].max())
    clean = corruptions[corruptions["corruption"] == CLEAN].assign(severity=0.0)
    lines = pd.concat([clean, means]).groupby("checkpoint", sort=False)
    title = f"mean over {count} corruption{'s' * (count > 1)}, {images} images"
    with styled() as figure:
        axes = figure.add_subplot(xlabel="severity", ylabel="accuracy, %", title=title)
        draw_lines(axes, [(str(name), own) for name, own in lines], "severity")
        severities = sorted(means["severity"].unique())
        axes.set_xticks([0.0, *severities], [CLEAN, *(f"{severity:g}" for severity in severities)])
        save(figure, folder, "corruptions")
    return [Drawn("corruptions", f"Accuracy against severity, {title}. Bands: 95 % over images.")]


def _accuracy(row: Row) -> str:
    return interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"])


def _level(row: Row) -> str:
    return "all" if math.isnan(row["severity"]) else f"{row['severity']:g}"
