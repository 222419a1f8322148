"""Draw accuracy against distance: what minimal-norm attacks leave."""

from typing import TYPE_CHECKING

import pandas as pd

from robustbench_sde.reporting.figures import (
    ACCURACY,
    MOST_LINES,
    Drawn,
    add_legend,
    file_name,
    left_out,
    legend_text,
    line_style,
    save,
    styled,
)
from robustbench_sde.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy_against_distance(out: RunFolder) -> list[Drawn]:
    """Draw `figures/accuracy-distance-<norm>-<attack>` from `distances.csv`, which lies in the same folder.

    Raises:
        BenchError: the table is damaged.
    """
    curves = out.read_distances()
    if curves is None:
        return []
    drawn = []
    for (norm, attack), rows in curves.groupby(["norm", "perturbation"], sort=False):
        name = file_name("accuracy-distance", str(norm), str(attack))
        lines = rows["checkpoint"].unique()
        _draw(rows[rows["checkpoint"].isin(lines[:MOST_LINES])], str(norm), out, name)
        caption = (
            f"{attack}, {norm}: accuracy left when every image may be moved so far. Bands: 95 % over images."
            f"{left_out(len(lines))}"
        )
        drawn.append(Drawn(name, caption))
    return drawn


def _draw(curves: pd.DataFrame, norm: str, out: RunFolder, name: str) -> None:
    with styled() as figure:
        draw_distances(figure.add_subplot(), curves, norm)
        save(figure, out, name)


def draw_distances(axes: "Axes", curves: pd.DataFrame, norm: str) -> None:
    """Draw a staircase for each checkpoint, with its 95 % band."""
    furthest = 1.05 * curves["distance"].max()
    axes.set(xlabel=f"distance ({norm}, images in [0, 1])", ylabel=ACCURACY, ylim=(-2, 102))
    for index, (label, rows) in enumerate(curves.groupby("checkpoint", sort=False)):
        steps = pd.concat([rows, rows.tail(1).assign(distance=furthest)])  # it goes on where it ended
        style = line_style(index) | {"marker": ""}
        x, percent = steps["distance"], 100 * steps[["accuracy", "accuracy_low", "accuracy_high"]]
        axes.step(x, percent["accuracy"], where="post", label=legend_text(str(label)), **style)
        low, high = percent["accuracy_low"], percent["accuracy_high"]
        axes.fill_between(x, low, high, step="post", color=style["color"], alpha=0.13, linewidth=0)
    add_legend(axes)
