"""Show the course of trainings: lines while one runs, curves in the terminal, and a figure of a run."""

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pandas as pd
from rich.text import Text

from robustbench_sde.errors import BenchError, one_line
from robustbench_sde.reporting.figures import (
    MOST_LINES,
    Drawn,
    left_out,
    legend_text,
    line_style,
    save,
    styled,
)
from robustbench_sde.reporting.terminal import make_console
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.spreadsheet import read_csv, without_apostrophe
from robustbench_sde.training.history import NAMES, Epoch
from robustbench_sde.training.tracking import Training

#: letters of a curve in a terminal, from low to high
_BLOCKS = "▁▂▃▄▅▆▇█"
#: widest curve in a terminal, in letters
_WIDEST = 60


class EpochLines:
    """Logger that says what is trained and, if stderr is no terminal, a line for each epoch.

    Args:
        training: training that begins or goes on.
        quiet: whether to say nothing.
    """

    def __init__(self, training: Training, *, quiet: bool = False) -> None:
        self._epochs = training.options["epochs"]
        self._lines = not quiet and not sys.stderr.isatty()
        if not quiet:
            print(f"training {training.path}: {training.words}", file=sys.stderr, flush=True)

    def epoch(self, row: Epoch) -> None:
        """Print the line of an epoch."""
        if self._lines:
            print(
                f"epoch {row.epoch}/{self._epochs} loss {row.loss:.4f} acc {row.accuracy:.1%} "
                f"lr {row.lr:.4g} sigma {row.sigma:.4g} {row.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )

    def close(self, outcome: Mapping[str, float], *, finished: bool) -> None:
        """Say nothing: the command does."""


def print_history(history: pd.DataFrame) -> None:
    """Print a line with a curve for loss and accuracy, with their first and last values."""
    console = make_console()
    width = max(8, min(_WIDEST, console.width - 40))
    first, last = history["epoch"].iloc[0], history["epoch"].iloc[-1]
    console.print(Text(f"training, epoch {first:.0f} to {last:.0f}:"))
    for name, form in (("loss", "{:.3g}"), ("accuracy", "{:.1%}")):
        values = history[name].tolist()
        ends = f"{form.format(values[0])} → {form.format(values[-1])}"
        console.print(Text(f"  {name:<9}{curve(values, width)}  {ends}"))


def curve(values: Sequence[float], width: int) -> str:
    """Draw numbers as at most `width` blocks, the lowest as ▁ and the highest as █."""
    if len(values) > width:
        edges = [round(place * len(values) / width) for place in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(values), max(values)
    steps = len(_BLOCKS) - 1
    return "".join(
        _BLOCKS[steps // 2 if high == low else round(steps * (value - low) / (high - low))]
        for value in values
    )


def read_trainings(run: RunFolder) -> pd.DataFrame | None:
    """Read `trainings.csv` of a run; None if it has none.

    Raises:
        BenchError: the file is damaged.
    """
    path = run.path / "trainings.csv"
    if not path.exists():
        return None
    try:
        table = read_csv(path, dtype={"checkpoint": str})
        numbers = table[list(NAMES)].astype(float)
        if list(table.columns) != ["checkpoint", *NAMES] or numbers.isna().to_numpy().any():
            raise ValueError("a number is missing")
    except (ValueError, KeyError, OSError) as error:
        raise BenchError(
            f"{path} is damaged ({one_line(error)}); run the command of the run again"
        ) from error
    table["checkpoint"] = table["checkpoint"].map(without_apostrophe)
    return None if table.empty else table


def training_figure(trainings: pd.DataFrame, folder: RunFolder) -> list[Drawn]:
    """Write `figures/training`: loss and training accuracy against the epoch, a line for each checkpoint.

    Args:
        trainings: table of `trainings.csv`, with a row for each epoch of each checkpoint.
        folder: folder to write into.
    """
    from matplotlib.ticker import MaxNLocator

    with styled(7.2, 2.9) as figure:
        losses, accuracies = figure.subplots(1, 2)
        losses.set(xlabel="epoch", ylabel="training loss")
        accuracies.set(xlabel="epoch", ylabel="training accuracy, %")
        lines = list(trainings.groupby("checkpoint", sort=False))
        for index, (name, own) in enumerate(lines[:MOST_LINES]):
            style = line_style(index) | {"marker": "" if len(own) > 1 else line_style(index)["marker"]}
            losses.plot(own["epoch"], own["loss"], label=legend_text(str(name)), **style)
            accuracies.plot(own["epoch"], 100 * own["accuracy"], **style)
        for axes in (losses, accuracies):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        losses.legend()
        save(figure, folder, "training")
    caption = "Mean loss and accuracy on the augmented training images, in training mode, by epoch."
    caption += left_out(len(lines))
    return [Drawn("training", caption)]
