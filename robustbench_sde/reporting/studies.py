"""Show the summary of a study as a table and a figure, through its view."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from robustbench_sde.models.smoothed import name_inside
from robustbench_sde.reporting.figures import Drawn, draw_heat_map, line_style, save, styled
from robustbench_sde.reporting.table import CellText, fit_to_width
from robustbench_sde.reporting.views import VIEWS, Measure, View
from robustbench_sde.runs.words import TableColumn, markdown
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.spreadsheet import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: columns whose repeated values are printed once
_NAMES = 2
_MOST_PANELS = 12
#: inches of `100 ± 24` in a heat map, and of a letter
_CELL_WIDTH, _LETTER_WIDTH = 0.7, 0.08


def study_rows(summary: pd.DataFrame, folder: RunFolder, view: View) -> pd.DataFrame:
    """Return the usable rows of a view, with columns `panel`, `line`, `across` and derived measures."""
    sound = summary[(summary["status"] == "ok") & (summary["perturbation"] != "control")]
    rows = view.derive(sound.reset_index(drop=True), folder)
    keys = ("panel", "line", "across")
    for name in keys:
        rows[name] = [getattr(view, name)(row) for row in rows.to_dict("records")]
    order = [rows[name].map(_in_order(rows[name]).index).to_numpy() for name in reversed(keys)]
    return rows.iloc[np.lexsort(order)].reset_index(drop=True)


def study_texts(rows: pd.DataFrame, view: View) -> pd.DataFrame:
    """Return the table as texts: a line for each panel, line and place, a column for each measure."""
    lines = [
        {view.panel_name: row["panel"], view.line_name: row["line"], view.heading: _place(row["across"])}
        | {measure.heading: measure.text(row) for measure in view.measures}
        for row in rows.to_dict("records")
    ]
    return pd.DataFrame(lines)


def write_study(
    name: str, summary: pd.DataFrame, train_sigma: Mapping[str, float], folder: RunFolder
) -> tuple[pd.DataFrame, list[Drawn]]:
    """Write `study.csv` (numbers), `study.md` (the table) and the figure `study-<name>`.

    Args:
        name: name of a study in `VIEWS`.
        summary: rows of the study's run.
        train_sigma: noise scale that each checkpoint, by name, was trained with.
        folder: the run's folder.

    Returns:
        The numbers, and the figure if there is something to draw.
    """
    view = VIEWS[name]
    rows = study_rows(
        summary.assign(train_sigma=summary["checkpoint"].map(name_inside).map(train_sigma)), folder, view
    )
    folder.write_text("study.csv", csv_text(rows))
    folder.write_text("study.md", markdown(study_texts(rows, view)))
    return rows, [] if rows.empty else [_figure(name, rows, view, folder)]


def study_table(console: Console, name: str, rows: pd.DataFrame, title: str) -> Table:
    """Return the rows of `write_study` as a table for the terminal; a repeated name is printed once."""
    view, table = VIEWS[name], study_texts(rows, VIEWS[name])
    spare = {measure.heading: measure.spare for measure in view.measures}
    spare[view.panel_name] = 9 if table.nunique().get(view.panel_name) == 1 else 0
    columns = [
        TableColumn(heading, numeric=place >= _NAMES, spare=spare.get(heading, 0))
        for place, heading in enumerate(table.columns)
    ]
    blocks: list[list[list[CellText]]] = []
    previous: list[str] = []
    for line in table.itertuples(index=False):
        texts = list(map(str, line))
        if texts[:_NAMES] != previous[:_NAMES]:
            blocks.append([])
        same = [texts[: place + 1] == previous[: place + 1] for place in range(_NAMES)]
        names = ["" if said else text for said, text in zip(same, texts[:_NAMES], strict=True)]
        blocks[-1].append([*names, *texts[_NAMES:]])
        previous = texts
    return fit_to_width(console, title, columns, blocks, stacked=True)


def _figure(name: str, rows: pd.DataFrame, view: View, folder: RunFolder) -> Drawn:
    """Draw panels side by side, one row of them for each measure; heat maps show only the first measure."""
    panels = list(dict.fromkeys(rows["panel"]))[:_MOST_PANELS]
    measures = view.measures[: 1 if view.kind == "heat map" else None]
    lines = list(dict.fromkeys(rows["line"]))
    draw = {"lines": _draw_lines, "points": _draw_points, "heat map": _draw_heat_map}[view.kind]
    height = 2.8 if view.kind == "lines" else 1.2 + 0.3 * len(lines)
    width = 4.4
    if view.kind == "heat map":  # the numbers in its cells beside each other, and the names of its lines
        width = _CELL_WIDTH * rows["across"].nunique() + _LETTER_WIDTH * max(map(len, lines))
    with styled(width * len(panels), height * len(measures)) as figure:
        grid = figure.subplots(len(measures), len(panels), squeeze=False)
        for row, measure in enumerate(measures):
            for column, panel in enumerate(panels):
                own = rows[(rows["panel"] == panel) & rows[measure.name].notna()]
                axes = grid[row][column]
                if own.empty:
                    axes.set_axis_off()
                    continue
                axes.set(title=panel, xlabel=view.heading, ylabel=measure.label)
                draw(axes, own, lines, measure, view)
        save(figure, folder, f"study-{name}")
    shown = ", ".join(measure.label for measure in measures)
    return Drawn(f"study-{name}", f"Study {name}: {shown}, by {view.heading}. Intervals: 95 % over images.")


def _draw_lines(axes: "Axes", rows: pd.DataFrame, lines: list[str], measure: Measure, view: View) -> None:
    for name, own in rows.groupby("line", sort=False):
        style, line = line_style(lines.index(str(name))), own.sort_values("across")
        value, low, high = measure.value_and_ends(line)
        axes.plot(line["across"], value, label=f" {name}", **style)
        if len(line) == 1:  # the same everywhere, as of an ODE for every number of draws
            axes.axhline(float(value.iloc[0]), color=style["color"], linestyle=":")
        axes.fill_between(line["across"], low, high, color=style["color"], alpha=0.13, linewidth=0)
    if view.log:
        places = _in_order(rows["across"])
        axes.set_xscale("log")
        axes.set_xticks(places, [_place(place) for place in places])
        axes.minorticks_off()
    axes.legend()


def _draw_points(axes: "Axes", rows: pd.DataFrame, lines: list[str], measure: Measure, view: View) -> None:
    axes.set(xlabel=measure.label, ylabel="")
    places = _in_order(rows["across"])
    for index, place in enumerate(places):
        own = rows[rows["across"] == place]
        value, low, high = measure.value_and_ends(own)
        shift = 0.3 * (index / max(1, len(places) - 1) - 0.5)
        y = [lines.index(line) + shift for line in own["line"]]
        bars = np.abs([value - low, high - value])
        style = line_style(index) | {"linestyle": "none", "label": _place(place)}
        axes.errorbar(value, y, xerr=bars, **style)
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title=view.heading)


def _draw_heat_map(axes: "Axes", rows: pd.DataFrame, lines: list[str], measure: Measure, view: View) -> None:
    axes.set(ylabel="")
    names, places = [line for line in lines if line in set(rows["line"])], _in_order(rows["across"])
    cells = {}
    for row in rows.to_dict("records"):
        accuracy, half = row[measure.name], 50 * (row[f"{measure.ends}_high"] - row[f"{measure.ends}_low"])
        cells[row["line"], _place(row["across"])] = 1 - accuracy, f"{100 * accuracy:.0f} ± {half:.0f}"
    draw_heat_map(axes, cells, names, [_place(place) for place in places])


def _in_order(values: "pd.Series[Any]") -> list[Any]:
    """Return distinct values: numbers by size, names in their order."""
    found = list(dict.fromkeys(values))
    return found if any(isinstance(value, str) for value in found) else sorted(found)


def _place(place: float | str) -> str:
    return place if isinstance(place, str) else f"{place:g}"
