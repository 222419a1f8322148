"""How long work tells how far it is; the command line decides what that looks like."""

from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """One bar."""

    def start(self, description: str, total: int) -> None:
        """A new piece of work of `total` units (images, batches)."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """`amount` more units are done; `note` replaces the text behind the bar."""


class Silent:
    """Shows nothing."""

    def start(self, description: str, total: int) -> None:
        """Nothing."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Nothing."""


SILENT = Silent()


@dataclass(frozen=True)
class Bars:
    """Two bars: the cells of a run, and the images of the cell at hand."""

    cells: Progress = SILENT
    images: Progress = SILENT
