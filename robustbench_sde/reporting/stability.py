"""Show the stability of checkpoints side by side: two tables, a sentence for each, a figure."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from robustbench_sde.errors import counted
from robustbench_sde.evaluation.stability.report import Agreement, Course, Estimate, StabilityReport
from robustbench_sde.reporting.figures import Drawn, line_style, save, styled
from robustbench_sde.reporting.table import CellText, fit_to_width
from robustbench_sde.reporting.terminal import make_console, print_sentence
from robustbench_sde.runs.words import TableColumn, interval, perturbation_text
from robustbench_sde.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Number of panels in a row of the figure.
_COLUMNS = 4
#: Columns that a narrow terminal leaves out, the highest number first; the files have them.
_SPARE = {"over paths": 6, "at 0": 5, "mu (max)": 4, "by drift": 3, "by noise": 2, "largest": 1}


def print_stability(reports: Sequence[StabilityReport], *, folder: str | None, reused: int = 0) -> None:
    """Print the theory's quantities, the perturbations, a sentence for each checkpoint, and the folder."""
    console = make_console()
    console.print(_theory(console, reports))
    console.print(_perturbations(console, reports))
    for report in reports:
        style = "bold red" if report.condition.agreement == Agreement.CONTRADICTS else ""
        print_sentence(console, sentence(report), style)
    if reused:
        console.print(f"{reused} of {counted(len(reports), 'report')} stored already", style="dim")
    if folder is not None:
        console.print(f"reports and figure: {folder}", style="dim", markup=False, soft_wrap=True)


def sentence(report: StabilityReport) -> str:
    """Say what the theorem of Liu et al. states about this network, and whether the exponent agrees."""
    condition = report.condition
    if not condition.applies:
        text = f"{report.checkpoint}: sigma² > 2L says nothing here: {condition.obstacle}"
        if math.isfinite(condition.predicted_noise):
            text += (
                f"; theory for entries that the drift mixes: the noise adds {condition.predicted_noise:+.3f} "
                f"to the exponent, measured {report.noise_part.estimate:+.3f}"
            )
        return text
    bound = f"the theorem's bound L - sigma²/2 = {condition.bound:.3g}"
    words = {
        Agreement.AGREES: "the condition holds along these paths and predicts a negative exponent: it agrees",
        Agreement.UNDECIDED: "the condition holds along these paths and predicts a negative exponent: "
        "its interval holds 0, use more images",
        Agreement.SILENT: f"the condition fails and predicts nothing; the exponent is within {bound}",
        Agreement.CONTRADICTS: f"the exponent is above {bound}: steps of sigma² dt = "
        f"{condition.variance * report.times[1]:.3g} are too long for a theorem about the equation",
    }
    return (
        f"{report.checkpoint}: sigma² = {condition.variance:.3g}, 2L = {2 * condition.lipschitz:.3g}, "
        f"exponent {_with_interval(report.exponent)}: {words[condition.agreement]}"
    )


def stability_figure(reports: Sequence[StabilityReport], folder: RunFolder) -> list[Drawn]:
    """Write `figures/stability`: the relative change of the state over t, a panel for each perturbation.

    The last panel is the log growth of an infinitesimal perturbation, whose slope is the exponent.
    """
    count = len(reports[0].perturbations) + 1
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    with styled(2.7 * columns, 2.5 * rows + 0.3) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for index, (panel, course) in enumerate(zip(panels, reports[0].perturbations, strict=False)):
            panel.set(title=_name(course), xlabel="t", ylabel="|h(x+e) - h(x)| / |h(x)|")
            _draw(panel, reports, [report.perturbations[index].relative for report in reports])
            panel.set_ylim(bottom=0)
        tangent = panels[count - 1]
        tangent.set(title="infinitesimal, random direction", xlabel="t", ylabel="log growth")
        _draw(tangent, reports, [report.growth for report in reports])
        for panel in panels[count:]:
            panel.remove()
        handles, labels = tangent.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4)
        save(figure, folder, "stability")
    caption = (
        "Change of the hidden state over time, on the Brownian path of the clean image. "
        f"Bands: 95 % over {counted(reports[0].images, 'image')}."
    )
    return [Drawn("stability", caption)]


def _draw(axes: "Axes", reports: Sequence[StabilityReport], courses: Sequence[Sequence[Estimate]]) -> None:
    for index, (report, course) in enumerate(zip(reports, courses, strict=True)):
        mean, low, high = np.array([(e.estimate, e.low, e.high) for e in course]).T
        shown = f" {report.checkpoint}" if report.checkpoint.startswith("_") else report.checkpoint
        axes.plot(report.times, mean, label=shown, markevery=max(1, len(mean) // 8), **line_style(index))
        axes.fill_between(report.times, low, high, color=line_style(index)["color"], alpha=0.13, linewidth=0)


def _theory(console: Console, reports: Sequence[StabilityReport]) -> Table:
    first, paths = reports[0], max(report.paths for report in reports)
    counts = f"{counted(first.images, 'image')} · {counted(paths, 'Brownian path')}"
    title = f"{first.dataset} · {counts} · seed {first.seed}"
    lines = [
        {
            "checkpoint": report.checkpoint,
            "noise": _noise(report),
            "exponent (95 %)": _with_interval(report.exponent),
            "over paths": _span(report.exponent.noise_low, report.exponent.noise_high),
            "by drift": _number(report.drift_part.estimate),
            "by noise": _number(report.noise_part.estimate),
            "largest": _number(report.largest.estimate),
            "L (max)": f"{report.lipschitz.estimate:.1f} ({report.condition.lipschitz:.1f})",
            "mu (max)": f"{report.one_sided.estimate:.1f} ({report.condition.one_sided:.1f})",
            "sigma² > 2L": ("yes" if report.condition.holds else "no")
            if report.condition.applies
            else "no claim",
        }
        for report in reports
    ]
    return _table(console, title, [lines], words=2)


def _perturbations(console: Console, reports: Sequence[StabilityReport]) -> Table:
    title = "change of the state on the Brownian path of the clean image, % of its size"
    blocks = []
    for report in reports:
        clean = interval(report.accuracy, report.accuracy_low, report.accuracy_high)
        blocks.append([_line(report.checkpoint, accuracy=clean), *map(_course, report.perturbations)])
    return _table(console, title, blocks, words=1)


def _course(course: Course) -> dict[str, str]:
    start, end = course.relative[0], course.relative[-1]
    return _line(
        f"  {_name(course)}",
        _number(start.estimate, "%"),
        f"{_number(end.estimate, '%')} {_span(end.low, end.high, '%')}".strip(),
        _span(end.noise_low, end.noise_high, "%"),
        _with_interval(course.rate),
        accuracy=interval(course.accuracy, course.accuracy_low, course.accuracy_high),
    )


def _line(
    name: str, start: str = "", end: str = "", over_paths: str = "", rate: str = "", *, accuracy: str
) -> dict[str, str]:
    """Return a line of the table of perturbations; the checkpoint's own has the accuracy on clean images."""
    return {
        "perturbation": name,
        "at 0": start,
        "at T (95 %)": end,
        "over paths": over_paths,
        "growth rate (95 %)": rate,
        "accuracy (95 %)": accuracy,
    }


def _table(console: Console, title: str, blocks: Sequence[Sequence[dict[str, str]]], *, words: int) -> Table:
    """Return a table from blocks of lines, cells by heading; the first `words` columns are text."""
    headings = list(blocks[0][0])
    columns = [
        TableColumn(heading, numeric=index >= words, spare=_SPARE.get(heading, 0))
        for index, heading in enumerate(headings)
    ]
    cells: list[list[list[CellText]]] = [
        [[line[heading] for heading in headings] for line in block] for block in blocks
    ]
    return fit_to_width(console, title, columns, cells, stacked=True)


def _name(course: Course) -> str:
    return perturbation_text(dict(asdict(course).items()))


def _noise(report: StabilityReport) -> str:
    if report.noise == "none":
        return "none"
    sigma = "" if math.isnan(report.sigma) else f" {report.sigma:g}"
    return f"{report.noise}{sigma} {report.noise_shape}"


def _with_interval(value: Estimate) -> str:
    return f"{_number(value.estimate)} {_span(value.low, value.high)}".strip()


def _number(value: float, unit: str = "") -> str:
    """Format a number with two decimals, or in percent with one; empty for NaN."""
    if math.isnan(value):
        return ""
    return f"{100 * value:.1f}" if unit else f"{value:.2f}"


def _span(low: float, high: float, unit: str = "") -> str:
    """Format an interval as ``(0.3 to 0.5)``; ends may be negative."""
    return "" if math.isnan(low) else f"({_number(low, unit)} to {_number(high, unit)})"
