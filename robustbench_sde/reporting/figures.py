"""Draw figures in one style, write them to files, and draw the curves of a run."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from robustbench_sde.reporting.letters import make_drawable, without_complaints
from robustbench_sde.runs.words import most_draws, name_lines, perturbation_text
from robustbench_sde.storage.files import atomic_write
from robustbench_sde.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that people with any colour vision tell apart (Okabe & Ito 2008), the pale yellow left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: Markers, so that lines differ without colours, too.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: label of the vertical axis of accuracies
ACCURACY = "accuracy, %"
_DASHES = ("-", "--", ":", "-.")
#: error above which white letters have more contrast than black ones on the colour map of heat maps
_DARK = 0.715

#: settings of matplotlib for every figure
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "svg.fonttype": "none",  # text stays text: small files that can be searched and read aloud
    "svg.hashsalt": "sde-bench",  # the same figure is the same file
    "text.parse_math": False,  # a name with a $ in it is a name
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}

#: Names of lines, each with its rows.
Lines = Sequence[tuple[str, pd.DataFrame]]

#: Largest number of lines of a figure: with more, its legend covers everything.
MOST_LINES = 14

#: Largest number of figures along one setting: a suite may have hundreds of budgets.
MOST_FIGURES = 6


@dataclass(frozen=True)
class Drawn:
    """A figure that was written."""

    #: name of the files `figures/<name>.svg` and `.png`
    name: str
    #: caption of one or two sentences
    caption: str


@contextmanager
def styled(width: float = 4.8, height: float = 3.2) -> Iterator["Figure"]:
    """Open a figure of this size in inches in our style, for a `with` block; no display is needed."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width, height))


def save(figure: "Figure", folder: RunFolder, name: str) -> None:
    """Write `figures/<name>.svg` and `.png`; call it inside `styled`, whose settings it uses.

    Names in scripts that the font lacks are drawn in another font, or by number in the PNG.
    """
    with without_complaints():
        for ending, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            if ending == "png":
                figure.set_layout_engine("none")  # both have one layout, which is half of the work
                make_drawable(figure)
            with atomic_write(folder.path / "figures" / f"{name}.{ending}") as temporary:
                figure.savefig(temporary, format=ending, metadata=metadata)


def line_style(index: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the line with this index; all lines of a figure differ."""
    turn = index // len(COLOURS)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": _DASHES[turn % len(_DASHES)],
    }


def left_out(lines: int) -> str:
    """Return the end of a caption: how many of so many lines are drawn; empty if all are."""
    return f" The first {MOST_LINES} of {lines} lines." if lines > MOST_LINES else ""


def legend_text(name: str) -> str:
    """Return a name as a label; matplotlib hides labels that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def file_name(*parts: str) -> str:
    """Replace what a file system may refuse in a name."""
    return "-".join(re.sub(r"[^A-Za-z0-9.=]+", "-", part).strip("-.") for part in parts)[:120]


def accuracy_against_eps(summary: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Draw accuracy against budget for each checkpoint: `figures/accuracy-eps-<norm>-<attack>`.

    Lines have 95 % bands. There is one figure per attack and norm, and a line where there are two budgets or
    more; budget 0 is the clean row.
    """
    drawn = []
    for norm, attack, lines in graded_attacks(summary):
        with styled() as figure:
            draw_budgets(figure.add_subplot(), lines[:MOST_LINES], norm)
            name = file_name("accuracy-eps", norm, attack)
            save(figure, folder, name)
        caption = f"{attack}, {norm}: accuracy against the budget eps. Bands: 95 % over images."
        caption += left_out(len(lines))
        drawn.append(Drawn(name, caption))
    return drawn


def graded_attacks(summary: pd.DataFrame, *, least: int = 2) -> Iterator[tuple[str, str, Lines]]:
    """Yield norm, attack and lines of each attack with budgets; the clean row is budget 0.

    Args:
        summary: rows of a run.
        least: smallest number of budgets above 0 that a line needs.
    """
    names = name_lines(summary)
    sound = most_draws(summary[summary["status"] == "ok"])
    clean = sound[sound["perturbation"] == "clean"].assign(eps=0.0)
    for (norm, attack), rows in sound[sound["eps"] > 0].groupby(["norm", "perturbation"], sort=False):
        graded = rows[rows.groupby(names[rows.index])["eps"].transform("nunique") >= least]
        if not graded.empty:
            start = clean[names[clean.index].isin(names[graded.index])]
            yield str(norm), str(attack), _by_series(pd.concat([start, graded]), names)


def draw_budgets(axes: "Axes", lines: Lines, norm: str) -> None:
    """Draw lines of `graded_attacks` with their bands; Linf budgets have a second scale, of grey levels."""
    axes.set(xlabel=f"eps ({norm}, images in [0, 1])", ylabel=ACCURACY, ylim=(-2, 102))
    draw_lines(axes, lines, "eps")
    if norm == "linf":
        scales = partial(np.multiply, 255), partial(np.multiply, 1 / 255)
        axes.secondary_xaxis("top", functions=scales).set_xlabel("eps × 255")


def accuracy_against_draws(summary: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Draw accuracy against the number of score draws: `figures/accuracy-draws-<perturbation>`.

    There is one figure for the clean images and one for each attack and budget with several numbers of draws.
    Bands are over fresh draws of the noise, the uncertainty that more draws reduce.
    """

    def ticks(axes: "Axes", draws: list[float]) -> None:
        axes.set_xscale("log", base=2)
        axes.set_xticks(draws, [f"{number:g}" for number in draws])
        axes.minorticks_off()

    return _against("score_draws", "score draws", summary, folder, over="noise", ticks=ticks)


def accuracy_against_sigma(summary: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Draw accuracy against the noise at test time: `figures/accuracy-sigma-<perturbation>`."""
    return _against("sigma", "sigma at test time", most_draws(summary), folder, over="accuracy")


def _against(
    setting: str,
    label: str,
    summary: pd.DataFrame,
    folder: RunFolder,
    *,
    over: str,
    ticks: "Callable[[Axes, list[float]], None]" = lambda axes, values: None,
) -> list[Drawn]:
    """Draw a figure for the clean images and for each attack and budget with several values of a setting."""
    names = name_lines(summary, along=setting)
    sound = summary[(summary["status"] == "ok") & summary["severity"].isna()]
    sound = sound[sound["perturbation"] != "control"]
    texts = np.array([perturbation_text(row) for row in sound.to_dict("records")], dtype=object)
    drawn: list[Drawn] = []
    for text, rows in sound.groupby(texts, sort=False):
        graded = rows[rows.groupby(names[rows.index])[setting].transform("nunique") > 1]
        if graded.empty or len(drawn) == MOST_FIGURES:
            continue
        with styled() as figure:
            axes = figure.add_subplot(xlabel=label, ylabel=ACCURACY)
            lines = _by_series(graded, names)
            draw_lines(axes, lines[:MOST_LINES], setting, over=over)
            ticks(axes, sorted(graded[setting].unique()))
            name = file_name(f"accuracy-{setting.removeprefix('score_')}", str(text))
            save(figure, folder, name)
        band = "over fresh draws" if over == "noise" else "over images"
        caption = f"{text}: accuracy against {label}. Bands: 95 % {band}.{left_out(len(lines))}"
        drawn.append(Drawn(name, caption))
    return drawn


def draw_lines(
    axes: "Axes", lines: Iterable[tuple[str, pd.DataFrame]], x: str, *, over: str = "accuracy"
) -> None:
    """Draw a line of accuracies per name with its band, `<over>_low` to `<over>_high`, and a legend.

    Args:
        axes: matplotlib axes to draw on.
        lines: names and their rows, with columns `x`, `accuracy` and those of the band.
        x: column along the horizontal axis.
        over: `accuracy` for intervals over images, `noise` for those over draws.
    """
    for index, (name, rows) in enumerate(lines):
        line = rows.sort_values(x)
        axes.plot(line[x], 100 * line["accuracy"], label=legend_text(name), **line_style(index))
        low, high = 100 * line[f"{over}_low"], 100 * line[f"{over}_high"]
        axes.fill_between(line[x], low, high, color=line_style(index)["color"], alpha=0.13, linewidth=0)
    add_legend(axes)


def add_legend(axes: "Axes") -> None:
    """Add a legend where it covers least; beside the axes if its lines would cover everything."""
    beside = len(axes.get_legend_handles_labels()[1]) > len(COLOURS)
    axes.legend(**{"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0} if beside else {})


def draw_heat_map(
    axes: "Axes", cells: Mapping[tuple[str, str], tuple[float, str]], rows: list[str], columns: list[str]
) -> None:
    """Draw a table of errors, darker where there are more, with a text in each cell.

    Args:
        axes: matplotlib axes to draw on.
        cells: error in [0, 1] and text by names of row and column; others stay empty.
        rows: names from top to bottom.
        columns: names from left to right.
    """
    errors = np.full((len(rows), len(columns)), np.nan)
    for (row, column), (error, text) in cells.items():
        y, x = rows.index(row), columns.index(column)
        errors[y, x] = error
        colour = letter_colour(error)
        axes.text(x, y, text, ha="center", va="center", fontsize="small", color=colour)
    axes.imshow(errors, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)


def letter_colour(error: float) -> str:
    """Return the colour of letters on the colour that a heat map has for an error in [0, 1]."""
    return "white" if error > _DARK else "black"


def _by_series(rows: pd.DataFrame, names: "pd.Series[str]") -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), own) for name, own in rows.groupby(names.loc[rows.index], sort=False)]
