"""Progress of the public functions: drawn on a terminal or in a notebook, or handed to receivers."""

from collections.abc import Iterator
from contextlib import contextmanager

from robustbench_sde.progress import SILENT, Bars, Progress
from robustbench_sde.reporting.progress import progress_bar, progress_bars


@contextmanager
def shown(progress: bool, bars: Bars | None) -> Iterator[Bars]:
    """Yield the receivers of progress: `bars` if there are any, else drawn ones if `progress` is True."""
    if bars is not None:
        yield bars
    elif progress:
        with progress_bars(quiet=False) as drawn:
            yield drawn
    else:
        yield Bars()


@contextmanager
def shown_bar(progress: bool | Progress) -> Iterator[Progress]:
    """Yield one receiver of progress: the given one, a drawn one for True, a silent one for False."""
    if progress is True:
        with progress_bar(quiet=False) as drawn:
            yield drawn
    else:
        yield progress or SILENT
