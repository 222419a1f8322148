"""Show a run of corruptions: two tables and figures, from `runs.tables.corruption_table`."""

import math
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.corruption_summary import CLEAN, MEAN
from robustbench_sde.reporting.figures import (
    MOST_FIGURES,
    MOST_LINES,
    Drawn,
    draw_heat_map,
    draw_lines,
    file_name,
    left_out,
    save,
    styled,
)
from robustbench_sde.reporting.table import CellText, fit_to_width
from robustbench_sde.reporting.terminal import make_console, print_footer, prints_csv
from robustbench_sde.runs.words import TableColumn, interval
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import TableRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: order in which a narrow terminal leaves out severities, the highest number first
_SPARE = {2: 4, 4: 3, 3: 2, 1: 1}


def print_corruptions(
    corruptions: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    folder: str | None,
    reused: int,
    reference: str | None,
) -> None:
    """Print, for each checkpoint, the accuracy by corruption and severity, then the means of all.

    As CSV, which has one heading and no titles, all rows are one table.
    """
    console = make_console()
    if prints_csv():
        console.print(_numbers(console, corruptions, reference, every=True))
    else:
        for name, own in corruptions.groupby("checkpoint", sort=False):
            console.print(_by_severity(console, str(name), own, summary))
        means = corruptions[corruptions["corruption"].isin([CLEAN, MEAN])]
        console.print(_numbers(console, means, reference))
    means = corruptions[(corruptions["corruption"] == MEAN) & (corruptions["status"] == "ok")]
    if reference is not None and means["ce"].isna().any():
        console.print(f"mCE divides by errors: it is empty where {reference} makes none at a corruption")
    print_footer(summary, folder=folder, reused=reused)


def _by_severity(console: Console, name: str, own: pd.DataFrame, summary: pd.DataFrame) -> Table:
    """Print one table with corruptions as rows and severities as columns; each accuracy has its interval."""
    first = summary[summary["checkpoint"] == name].iloc[0]
    images, draws = counted(first["images"], "image"), counted(first["score_draws"], "score draw")
    title = (
        f"{name} · {first['dataset']} · {images} · {draws} ({first['rule']}) · seed {first['seed']} · "
        "accuracy (95 %)"
    )
    severities = sorted(own["severity"].dropna().unique())
    columns = [TableColumn("corruption", numeric=False)]
    columns += [TableColumn(f"severity {level:g}", spare=_SPARE.get(level, 0)) for level in severities]
    columns += [TableColumn("mean")]
    cells = {
        (row["corruption"], None if math.isnan(row["severity"]) else row["severity"]): _accuracy(row)
        for row in own.to_dict("records")
    }
    blocks: list[list[list[CellText]]] = [[]]
    for corruption in own["corruption"].unique():
        if corruption == MEAN:
            blocks.append([])
        graded = [cells.get((corruption, severity), "") for severity in severities]
        whole = cells.get((corruption, None), "")
        blocks[-1].append([corruption, *graded, whole or next(filter(None, graded), "")])
    return fit_to_width(console, title, columns, blocks, stacked=True)


def _numbers(console: Console, rows: pd.DataFrame, reference: str | None, *, every: bool = False) -> Table:
    """Return a table of the means over corruptions, or with a column of corruptions of `every` row."""
    columns = [
        TableColumn("checkpoint", numeric=False),
        *[TableColumn("corruption", numeric=False)] * every,
        TableColumn("severity"),
        TableColumn("accuracy (95 %)"),
        TableColumn("single draw (95 %)", spare=1),
        TableColumn("error", spare=3),
        TableColumn("error - clean (95 %)"),
        TableColumn("ECE", spare=4),
        TableColumn("Brier", spare=5),
        TableColumn("undecided", spare=2),
    ]
    if reference is not None:
        columns.append(TableColumn(f"mCE over {reference}"))
    blocks: list[list[list[CellText]]] = []
    previous = None
    for row in rows.to_dict("records"):
        name = "" if row["checkpoint"] == previous else row["checkpoint"]
        previous = row["checkpoint"]
        if name:
            blocks.append([])
        level = CLEAN if row["corruption"] == CLEAN else _level(row)
        names = [name, row["corruption"], level] if every else [name, level]
        if row["status"] != "ok":
            words = [*names, "invalid"]
            blocks[-1].append([Text(word, "red") for word in [*words, *[""] * (len(columns) - len(words))]])
            continue
        line = [
            *names,
            _accuracy(row),
            interval(row["single_draw_accuracy"], row["single_draw_low"], row["single_draw_high"]),
            f"{100 * (1 - row['accuracy']):.1f}",
            interval(row["relative_error"], row["relative_low"], row["relative_high"]),
            f"{row['ece']:.3f}",
            f"{row['brier']:.3f}",
            f"{row['undecided']:.0%}",
        ]
        blocks[-1].append(
            [*line, *([interval(row["ce"], row["ce_low"], row["ce_high"])] * (len(columns) - len(line)))]
        )
    return fit_to_width(console, "mean over corruptions", columns, blocks)


def corruption_figure(corruptions: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Write `figures/corruptions`: accuracy, mean over corruptions, against severity, with 95 % bands.

    Nothing is written if no corruption has a severity.
    """
    if not has_severities(corruptions):
        return []
    names = corruptions["checkpoint"].unique()
    with styled() as figure:
        shown = corruptions[corruptions["checkpoint"].isin(names[:MOST_LINES])]
        title = draw_corruptions(figure.add_subplot(), shown)
        save(figure, folder, "corruptions")
    caption = f"Accuracy against severity, {title}. Bands: 95 % over images.{left_out(len(names))}"
    return [Drawn("corruptions", caption)]


def has_severities(corruptions: pd.DataFrame) -> bool:
    """Whether there are means over corruptions by severity, which `draw_corruptions` draws."""
    return not _means_by_severity(corruptions).empty


def draw_corruptions(axes: "Axes", corruptions: pd.DataFrame) -> str:
    """Draw the mean accuracy over corruptions against severity, with 95 % bands; return the title."""
    means = _means_by_severity(corruptions)
    count, images = int(means["cells"].max()), int(corruptions["images"].max())
    clean = corruptions[corruptions["corruption"] == CLEAN].assign(severity=0.0)
    lines = pd.concat([clean, means]).groupby("checkpoint", sort=False)
    title = f"mean over {counted(count, 'corruption')}, {counted(images, 'image')}"
    axes.set(xlabel="severity", ylabel="accuracy, %", title=title)
    draw_lines(axes, [(str(name), own) for name, own in lines], "severity")
    severities = sorted(means["severity"].unique())
    axes.set_xticks([0.0, *severities], [CLEAN, *(f"{severity:g}" for severity in severities)])
    return title


def _means_by_severity(corruptions: pd.DataFrame) -> pd.DataFrame:
    return corruptions[(corruptions["corruption"] == MEAN) & corruptions["severity"].notna()]


def _accuracy(row: TableRow) -> str:
    return interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"])


def _level(row: TableRow) -> str:
    return "all" if math.isnan(row["severity"]) else f"{row['severity']:g}"


def _whole_percent(row: TableRow) -> str:
    value, low, high = (100 * row[name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
    return f"{value:.0f} ({low:.0f}-{high:.0f})"


def graded_corruptions(own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a checkpoint that have a severity, the mean over corruptions last."""
    graded = own[own["severity"].notna() & (own["corruption"] != CLEAN) & (own["status"] == "ok")]
    return graded.sort_values("corruption", key=lambda names: names == MEAN, kind="stable")


def corruption_heatmaps(corruptions: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Write `figures/heatmap-<checkpoint>`: darker is more errors, the interval beside each accuracy.

    There are at most `MOST_FIGURES`; the page has all of them as tables.
    """
    drawn: list[Drawn] = []
    for checkpoint, own in corruptions.groupby("checkpoint", sort=False):
        rows = graded_corruptions(own)
        if rows.empty:
            continue
        if len(drawn) == MOST_FIGURES:
            break
        corrupted = list(rows["corruption"].unique())
        severities = [f"{severity:g}" for severity in sorted(rows["severity"].unique())]
        cells = {
            (row["corruption"], f"{row['severity']:g}"): (1 - row["accuracy"], _whole_percent(row))
            for row in rows.to_dict("records")
        }
        with styled(1.9 + 0.85 * len(severities), 0.9 + 0.21 * len(corrupted)) as figure:
            axes = figure.add_subplot(xlabel="severity", title=f"{checkpoint}\naccuracy, % (95 %)")
            draw_heat_map(axes, cells, corrupted, severities)
            name = file_name("heatmap", str(checkpoint))
            save(figure, folder, name)
        drawn.append(
            Drawn(name, f"{checkpoint}: accuracy by corruption and severity; darker cells have more errors.")
        )
    return drawn
