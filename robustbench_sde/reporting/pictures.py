"""Draw a result for a notebook: one figure of all its curves, and a gallery of perturbed images."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_sde.errors import BenchError
from robustbench_sde.reporting.corruptions import draw_corruptions, has_severities
from robustbench_sde.reporting.distances import draw_distances
from robustbench_sde.reporting.figures import STYLE, draw_budgets, graded_attacks
from robustbench_sde.reporting.letters import make_drawable, without_complaints
from robustbench_sde.shown import Pixels

#: panels side by side
_COLUMNS = 3
#: width and height of a panel, in inches
_PANEL = (4.2, 3.2)


class NotebookFigure(Figure):
    """Figure that notebooks show by itself, whether or not pyplot has been imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with without_complaints():
            make_drawable(self)
            self.savefig(file, format="png", dpi=self.dpi)
        return file.getvalue()


@dataclass(frozen=True)
class Shown:
    """An image of a gallery."""

    clean: Pixels
    perturbed: Pixels
    #: label and prediction in words
    label: str
    prediction: str
    correct: bool


def plot_curves(
    summary: pd.DataFrame, distances: pd.DataFrame | None, corruptions: pd.DataFrame | None
) -> Figure:
    """Draw accuracy against eps, distance and severity, a panel for each attack and norm, with 95 % bands.

    Args:
        summary: rows of a result.
        distances: curves of minimal-norm attacks (`DISTANCES`), or None.
        corruptions: accuracies by corruption and severity (`CORRUPTIONS`), or None.

    Raises:
        BenchError: there is no curve in it.
    """
    panels: list[tuple[str, Callable[[Axes], object]]] = []
    for norm, attack, lines in graded_attacks(summary, least=1):
        panels.append((attack, partial(draw_budgets, lines=lines, norm=norm)))
    if distances is not None:
        for (name_of_norm, attacked), rows in distances.groupby(["norm", "perturbation"], sort=False):
            panels.append((str(attacked), partial(draw_distances, curves=rows, norm=str(name_of_norm))))
    if corruptions is not None and has_severities(corruptions):
        panels.append(("corruptions", partial(draw_corruptions, corruptions=corruptions)))
    if not panels:
        raise BenchError(
            "nothing to plot: the result has no valid attack with a budget, minimal-norm attack or severity"
        )
    columns = min(len(panels), _COLUMNS)
    rows_of_panels = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows_of_panels))
        places = figure.subplots(rows_of_panels, columns, squeeze=False).flatten()
        for place, (title, draw) in zip(places, panels, strict=False):
            draw(place)
            place.set_title(place.get_title(loc="left") or title)
        for place in places[len(panels) :]:
            place.set_axis_off()
        _lay_out(figure)
    return figure


def _lay_out(figure: Figure) -> None:
    """Give texts their places and fonts while the style holds."""
    with without_complaints():
        make_drawable(figure)
        figure.draw_without_rendering()


def plot_gallery(images: Sequence[Shown], *, title: str, gain: float) -> Figure:
    """Draw a column for each image: clean, perturbed, and the difference around mid-grey.

    Args:
        images: at least one.
        title: text above.
        gain: factor by which differences are multiplied.
    """
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(1.05 * len(images) + 1.3, 3.9))
        figure.suptitle(title, x=0.01, ha="left", fontsize="medium")
        grid = figure.subplots(3, len(images), squeeze=False)
        for column, image in enumerate(images):
            difference = 0.5 + gain * (image.perturbed - image.clean)
            wrong = "" if image.correct else " (wrong)"
            rows = (
                (image.clean, image.label),
                (image.perturbed, f"{image.prediction}{wrong}"),
                (difference, ""),
            )
            for row, (pixels, text) in enumerate(rows):
                place = grid[row, column]
                shown = np.clip(pixels, 0, 1).transpose(1, 2, 0).squeeze()
                place.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                place.set_title(text, fontsize="small", loc="center")
                place.grid(visible=False)
                place.spines[:].set_visible(False)
                place.set_xticks([])
                place.set_yticks([])
        for row, text in enumerate(("clean", "perturbed", f"difference × {gain:g}")):
            grid[row, 0].set_ylabel(text)
        _lay_out(figure)
    return figure
