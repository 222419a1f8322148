"""Draw progress: bars on a terminal or in a notebook, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from robustbench_sde.errors import duration
from robustbench_sde.output import others_print_to_stderr
from robustbench_sde.progress import SILENT, Bars, Progress
from robustbench_sde.reporting.notebook_progress import NotebookBoard, in_notebook

#: Seconds over which the pace is averaged for the time that is left: all of a usual run, since its cells
#: take unequal times.
_PACE = 3600.0
#: Seconds between two plain lines.
_INTERVAL = 15.0
#: Width of a note like `epoch 100/110 loss 1.854 acc 45.3%`.
_NOTE = 36
#: Widths of `1234/5678` and `10:12:34`.
_NUMBERS = (9, 8)


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """Draw a bar on stderr that shows what is done, what remains, and a note."""
    with _bars(1, quiet=quiet) as (bar,):
        yield bar


@contextlib.contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Bars]:
    """Draw a bar for the cells of a run above one for the images of the current cell."""
    with _bars(2, quiet=quiet) as (cells, images):
        yield Bars(cells, images)


@contextlib.contextmanager
def _bars(count: int, *, quiet: bool) -> Iterator[list[Progress]]:
    with others_print_to_stderr():
        yield from _shown_on(Console(stderr=True), count, quiet=quiet)


def _shown_on(console: Console, count: int, *, quiet: bool) -> Iterator[list[Progress]]:
    if quiet:
        yield [SILENT] * count
    elif in_notebook():
        board = NotebookBoard()
        try:
            yield [board.add() for _ in range(count)]
        finally:
            board.clear()
    elif not console.is_terminal:
        yield [_PlainLines(sys.stderr) for _ in range(count)]
    else:
        with RichProgress(
            *_columns(console.width, count), console=console, transient=True, speed_estimate_period=_PACE
        ) as bar:
            yield [_Bar(bar) for _ in range(count)]


def _columns(width: int, bars: int) -> list[ProgressColumn]:
    """Return columns in which texts are cut first; counts and times are always shown whole.

    Of two bars, the notes repeat each other's text, stand last and are cut first. A bar alone has its note,
    which says how the work goes, before the bar, and its name is cut first.
    """
    wide = width >= 160
    bar = 40 if wide else max(9, width // 6 - 4)
    room = width - bar - sum(_NUMBERS) - 4  # a space between columns
    if bars > 1:
        description = 60 if wide else width // 2
        note = max(1, room - description)
    else:
        note = min(_NOTE, max(1, room - 1))
        description = max(1, min(60, room - note))
    texts = [
        TextColumn("{task.description}", markup=False, table_column=_cut(description, fixed=bars > 1)),
        TextColumn(
            "{task.fields[note]}", style="dim", markup=False, table_column=_cut(note, fixed=bars == 1)
        ),
    ]
    counts = [
        BarColumn(bar),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=_NUMBERS[0])),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=_NUMBERS[1])),
    ]
    return [texts[0], *counts, texts[1]] if bars > 1 else [*texts, *counts]


def _cut(width: int, *, fixed: bool) -> Column:
    """Return a column that cuts its text; one of fixed width keeps what is right of it in its place."""
    return Column(no_wrap=True, overflow="ellipsis", max_width=width, min_width=width if fixed else None)


class _Bar:
    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task = bar.add_task("", note="", total=None, visible=False)

    def start(self, description: str, total: int) -> None:
        self._bar.reset(self._task, description=description, total=total, visible=True, note="")

    def advance(self, amount: int = 1, note: str = "") -> None:
        if note:
            self._bar.update(self._task, note=note)
        self._bar.advance(self._task, amount)


class _PlainLines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._description, self._note = "", ""
        self._total, self._done = 0, 0
        self._started = self._printed = time.monotonic()

    def start(self, description: str, total: int) -> None:
        self._description, self._total, self._done = description, total, 0
        self._started = self._printed = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        now = time.monotonic()
        if now - self._printed >= _INTERVAL and self._done:
            self._printed = now
            left = (now - self._started) / self._done * (self._total - self._done)
            rest = f"{duration(left)} left" if left else "done"
            done = f"{self._description}: {self._done}/{self._total}, {rest}"
            print(done + f", {self._note}" * bool(self._note), file=self._stream, flush=True)
