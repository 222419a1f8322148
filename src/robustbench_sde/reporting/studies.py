"""The studies of Liu et al. (CVPR 2020): each is a shipped suite, and a view that makes a table and a figure.

What a study runs stands in ``suites/study/<name>.yaml``; docs/studies.md says which claim it tests.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich import box
from rich.table import Table

from robustbench_sde.reporting.figures import Drawn, look, save, styled
from robustbench_sde.reporting.terminal import interval, perturbation_text
from robustbench_sde.results.run_folder import RunFolder, markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[Hashable, Any]
_Numbers = npt.NDArray[np.float64]

#: what tables and axes call a measure
_MEASURES = {
    "accuracy": "accuracy, %",
    "single_draw_accuracy": "accuracy of one draw, %",
    "ece": "expected calibration error",
    "change": "change of the label's probability, %",
    "overstated": "more than honest accuracy, %",
}
#: the same as the head of a column
_HEADINGS = {
    "accuracy": "accuracy (95 %)",
    "single_draw_accuracy": "single draw (95 %)",
    "ece": "ECE",
    "change": "change of p (95 %)",
    "overstated": "overstated (95 %)",
}
#: measures that are no percentage
_PLAIN = ("ece",)
#: columns with the ends of a measure's interval, where they are not called after it
_ENDS = {"single_draw_accuracy": "single_draw"}
#: columns of a table that are said once
_NAMES = 2
_MOST_PANELS = 12
#: accuracies from here on get black letters
_PALE = 0.45
#: the attack that the paper's own is compared with
_HONEST = "apgd-ce"


@dataclass(frozen=True)
class View:
    """How the summary of a study is shown."""

    #: a panel of the figure and a section of the table
    panel: Callable[[Row], str]
    #: a line in it
    line: Callable[[Row], str]
    #: a row's place along its line, which `heading` names
    across: Callable[[Row], float | str]
    heading: str
    kind: Literal["lines", "points", "heat map"] = "lines"
    measures: tuple[str, ...] = ("accuracy",)
    #: whether the axis is logarithmic
    log: bool = False
    #: what tables call panels and lines
    panel_name: str = "perturbation"
    line_name: str = "checkpoint"
    #: adds measures that need the records
    derive: Callable[[pd.DataFrame, RunFolder], pd.DataFrame] = lambda summary, folder: summary


def _checkpoint(row: Row) -> str:
    return str(row["checkpoint"])


def _perturbation(row: Row) -> str:
    return perturbation_text(dict(row))


def _attack_alone(row: Row) -> str:
    return f"{row['perturbation']} {row['norm']}"


def _attack_solver(row: Row) -> str:
    name = str(row["perturbation"])
    return "clean" if name == "clean" else f"attack on {name.partition(':')[2]}"


def _solver(row: Row) -> str:
    return str(row["solver"])


def _overstated(summary: pd.DataFrame, folder: RunFolder) -> pd.DataFrame:
    """By how much the paper's attack and scoring say more than honest ones; clean rows are budget 0."""
    clean, attacked = (summary[(summary["perturbation"] == "clean") == which] for which in (True, False))
    kinds = dict.fromkeys(zip(attacked["perturbation"], attacked["norm"], strict=True))
    starts = [clean.assign(perturbation=str(kind), norm=str(norm), eps=0.0) for kind, norm in kinds]
    summary = pd.concat([*starts, attacked], ignore_index=True)
    honest = {
        (row["checkpoint"], row["eps"], row["seed"]): row["cell"]
        for row in summary[summary["perturbation"] == _HONEST].to_dict("records")
    }

    def difference(row: Row) -> _Numbers | None:
        partner = honest.get((row["checkpoint"], row["eps"], row["seed"]))
        if row["perturbation"] != "liu2020" or partner is None:
            return None
        own, other = folder.read_records(row["cell"]), folder.read_records(partner)
        return (own["share_correct"] - other["correct"]).to_numpy(dtype=np.float64)

    return _with_mean(summary, "overstated", difference)


def _change(summary: pd.DataFrame, folder: RunFolder) -> pd.DataFrame:
    """Beside every number of steps: how far the label's probability is from that of the most steps."""
    finest = summary.loc[summary.groupby("checkpoint")["solver_steps"].idxmax()]
    reference = dict(zip(finest["checkpoint"], finest["cell"], strict=True))

    def difference(row: Row) -> _Numbers | None:
        if reference[row["checkpoint"]] == row["cell"]:
            return None
        own, other = (folder.read_records(cell) for cell in (row["cell"], reference[row["checkpoint"]]))
        return (own["label_probability"] - other["label_probability"]).abs().to_numpy(dtype=np.float64)

    return _with_mean(summary, "change", difference)


def _with_mean(
    summary: pd.DataFrame, name: str, difference: Callable[[Row], _Numbers | None]
) -> pd.DataFrame:
    """A measure that is a mean over paired images, with its normal 95 % interval; NaN where there is none."""
    found = []
    for row in summary.to_dict("records"):
        values = difference(row)
        if values is None:
            found.append((np.nan, np.nan, np.nan))
            continue
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        mean, least = values.mean(), 0.0 if (values >= 0).all() else -1.0
        found.append((mean, max(least, mean - half), min(1.0, mean + half)))
    return summary.assign(**dict(zip((name, f"{name}_low", f"{name}_high"), np.array(found).T, strict=True)))


#: The studies that are suites, with what is shown of them; `corruption` has tables and a figure of its own.
VIEWS: Mapping[str, View] = {
    "clean": View(
        panel=lambda row: "clean",
        line=_checkpoint,
        across=lambda row: "off" if row["noise"] == "none" else "as trained",
        heading="noise at test time",
        kind="points",
        measures=("accuracy", "single_draw_accuracy"),
    ),
    "budget": View(
        panel=_attack_alone,
        line=_checkpoint,
        across=lambda row: float(row["eps"]),
        heading="eps",
        measures=("accuracy", "single_draw_accuracy", "overstated"),
        derive=_overstated,
    ),
    "draws": View(
        panel=_perturbation,
        line=_checkpoint,
        across=lambda row: int(row["score_draws"]),
        heading="score draws",
        measures=("accuracy", "ece"),
        log=True,
    ),
    "grid": View(
        panel=lambda row: "clean",
        line=_checkpoint,
        across=lambda row: int(row["solver_steps"]),
        heading="steps of the solver",
        measures=("accuracy", "change"),
        log=True,
        derive=_change,
    ),
    "sigma": View(
        panel=_perturbation,
        line=_checkpoint,
        across=lambda row: float(row["sigma"]),
        heading="sigma at test time",
        kind="heat map",
    ),
    "solver": View(
        panel=_checkpoint,
        line=_attack_solver,
        across=_solver,
        heading="scored on",
        kind="heat map",
        panel_name="checkpoint",
        line_name="attack",
    ),
}


def placed(summary: pd.DataFrame, folder: RunFolder, view: View) -> pd.DataFrame:
    """The sound rows of a view, with the columns `panel`, `line`, `across` and derived measures."""
    sound = summary[(summary["status"] == "ok") & (summary["perturbation"] != "control")]
    rows = view.derive(sound.reset_index(drop=True), folder)
    for name in ("panel", "line", "across"):
        key = getattr(view, name)
        rows[name] = [key(row) for row in rows.to_dict("records")]
    for name in ("panel", "line"):  # by name in the order in which they come, then along the line
        rows[name] = pd.Categorical(rows[name], list(dict.fromkeys(rows[name])))
    return rows.sort_values(["panel", "line", "across"], ignore_index=True).astype(
        {"panel": str, "line": str}
    )


def long(rows: pd.DataFrame, view: View) -> pd.DataFrame:
    """The table as texts: a line for each panel, line and place, a column for each measure."""
    lines = [
        {view.panel_name: row["panel"], view.line_name: row["line"], view.heading: _place(row["across"])}
        | {_HEADINGS[measure]: _text(row, measure) for measure in view.measures}
        for row in rows.to_dict("records")
    ]
    return pd.DataFrame(lines)


def write_study(name: str, summary: pd.DataFrame, folder: RunFolder) -> tuple[pd.DataFrame, list[Drawn]]:
    """Write `study.csv` (numbers), `study.md` (the table) and the figure `study-<name>`; table and figure.

    Args:
        name: in `VIEWS`.
        summary: of the study's run.
        folder: of the run.
    """
    view = VIEWS[name]
    rows = placed(summary, folder, view)
    folder.write_text("study.csv", rows.to_csv(index=False))
    table = long(rows, view)
    folder.write_text("study.md", markdown(table))
    return table, [] if rows.empty else [_figure(name, rows, view, folder)]


def study_table(table: pd.DataFrame, title: str) -> Table:
    """The table for the terminal; a name that repeats is said once."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, heading in enumerate(table.columns):
        shown.add_column(heading, justify="left" if place < _NAMES else "right", overflow="fold")
    previous: list[str] = []
    for line in table.itertuples(index=False):
        texts = list(map(str, line))
        if previous and texts[:_NAMES] != previous[:_NAMES]:
            shown.add_section()
        same = [texts[: place + 1] == previous[: place + 1] for place in range(_NAMES)]
        shown.add_row(
            *("" if said else text for said, text in zip(same, texts[:_NAMES], strict=True)), *texts[_NAMES:]
        )
        previous = texts
    return shown


def _figure(name: str, rows: pd.DataFrame, view: View, folder: RunFolder) -> Drawn:
    """Panels side by side, one row of them for each measure; heat maps show the first measure alone."""
    panels = list(dict.fromkeys(rows["panel"]))[:_MOST_PANELS]
    measures = [m for m in view.measures if rows[m].notna().any()][: 1 if view.kind == "heat map" else None]
    lines = list(dict.fromkeys(rows["line"]))
    draw = {"lines": _draw_lines, "points": _draw_points, "heat map": _draw_heat_map}[view.kind]
    height = 2.8 if view.kind == "lines" else 1.2 + 0.3 * len(lines)
    with styled(4.4 * len(panels), height * len(measures)) as figure:
        grid = figure.subplots(len(measures), len(panels), squeeze=False)
        for row, measure in enumerate(measures):
            for column, panel in enumerate(panels):
                own = rows[(rows["panel"] == panel) & rows[measure].notna()]
                axes = grid[row][column]
                if own.empty:
                    axes.set_axis_off()
                    continue
                axes.set(title=panel, xlabel=view.heading, ylabel=_MEASURES[measure])
                draw(axes, own, lines, measure, view)
        save(figure, folder, f"study-{name}")
    shown = ", ".join(_MEASURES[measure] for measure in measures)
    return Drawn(f"study-{name}", f"Study {name}: {shown}, by {view.heading}. Intervals: 95 % over images.")


def _draw_lines(axes: "Axes", rows: pd.DataFrame, lines: list[str], measure: str, view: View) -> None:
    for name, own in rows.groupby("line", sort=False):
        style, line = look(lines.index(str(name))), own.sort_values("across")
        value, low, high = _numbers(line, measure)
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


def _draw_points(axes: "Axes", rows: pd.DataFrame, lines: list[str], measure: str, view: View) -> None:
    axes.set(xlabel=_MEASURES[measure], ylabel="")
    places = _in_order(rows["across"])
    for index, place in enumerate(places):
        own = rows[rows["across"] == place]
        value, low, high = _numbers(own, measure)
        shift = 0.3 * (index / max(1, len(places) - 1) - 0.5)
        y = [lines.index(line) + shift for line in own["line"]]
        bars = np.abs([value - low, high - value])
        style = look(index) | {"linestyle": "none", "label": _place(place)}
        axes.errorbar(value, y, xerr=bars, **style)
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title=view.heading)


def _draw_heat_map(axes: "Axes", rows: pd.DataFrame, lines: list[str], measure: str, view: View) -> None:
    axes.set(ylabel="")
    places, names = _in_order(rows["across"]), [line for line in lines if line in set(rows["line"])]
    values = np.full((len(names), len(places)), np.nan)
    for row in rows.to_dict("records"):
        where = names.index(row["line"]), places.index(row["across"])
        values[where] = row[measure]
        colour = "black" if row[measure] > _PALE else "white"
        axes.text(where[1], where[0], f"{100 * row[measure]:.0f}", ha="center", va="center", color=colour)
    axes.imshow(values, cmap="Blues_r", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(places)), [_place(place) for place in places])
    axes.set_yticks(range(len(names)), names)


def _numbers(rows: pd.DataFrame, measure: str) -> tuple["pd.Series[float]", ...]:
    """Value and ends of its interval; the value itself where it has none."""
    scale = 1 if measure in _PLAIN else 100
    ends = _ENDS.get(measure, measure)
    names = (measure, *(f"{ends}_{end}" if f"{ends}_{end}" in rows else measure for end in ("low", "high")))
    return tuple(scale * rows[name] for name in names)


def _text(row: Row, measure: str) -> str:
    if np.isnan(row[measure]):
        return ""
    if measure in _PLAIN:
        return f"{row[measure]:.3f}"
    ends = _ENDS.get(measure, measure)
    return interval(row[measure], row[f"{ends}_low"], row[f"{ends}_high"])


def _in_order(places: "pd.Series[Any]") -> list[Any]:
    """Numbers by size, names as they come."""
    found = list(dict.fromkeys(places))
    return found if any(isinstance(place, str) for place in found) else sorted(found)


def _place(place: float | str) -> str:
    return place if isinstance(place, str) else f"{place:g}"
