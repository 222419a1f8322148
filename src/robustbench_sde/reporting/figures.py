"""One style for all figures, without a display, and how they are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

from robustbench_sde.results.files import atomic_write
from robustbench_sde.results.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Colours that people with any colour vision tell apart (Okabe & Ito 2008), the pale yellow left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: Told apart without colours, too.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "sde-bench",  # the same figure is the same file
}


@contextmanager
def styled(width: float = 6.0, height: float = 3.6) -> Iterator["Figure"]:
    """A figure of this size in inches, drawn in our style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def save(figure: "Figure", folder: RunFolder, name: str) -> None:
    """Write `figures/<name>.svg` and `.png`; inside `styled`, whose settings saving needs too."""
    for ending, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with atomic_write(folder.path / "figures" / f"{name}.{ending}") as temporary:
            figure.savefig(temporary, format=ending, metadata=metadata)


def accuracy_against_eps(summary: "pd.DataFrame", folder: RunFolder) -> None:
    """Accuracy against budget for each checkpoint, with its 95 % band: `figures/accuracy-eps-<norm>.svg`.

    One figure a norm; budget 0 is the control. Nothing is drawn where a norm has fewer than two budgets.
    """
    attacks = summary[summary["eps"].notna() & (summary["status"] == "ok")]
    for norm, rows in attacks.groupby("norm"):
        if rows["eps"].nunique() < 3:  # the control and one budget are no curve
            continue
        with styled() as figure:
            axes = figure.add_subplot(
                xlabel=f"eps ({norm}, images in [0, 1])", ylabel="accuracy", ylim=(0, 1)
            )
            names = [name for name in rows["perturbation"].unique() if name != "control"]
            lines = [(checkpoint, name) for checkpoint in rows["checkpoint"].unique() for name in names]
            looks = cycle(zip(COLOURS, MARKERS, strict=True))
            for (checkpoint, name), (colour, marker) in zip(lines, looks, strict=False):
                own = rows[rows["checkpoint"] == checkpoint]
                line = own[own["perturbation"].isin((name, "control"))].sort_values("eps")
                label = f"{checkpoint} {name}" if len(names) > 1 else str(checkpoint)
                axes.plot(line["eps"], line["accuracy"], color=colour, marker=marker, ms=4, label=label)
                axes.fill_between(
                    line["eps"], line["accuracy_low"], line["accuracy_high"], color=colour, alpha=0.15, lw=0
                )
            axes.legend()
            save(figure, folder, f"accuracy-eps-{norm}")
