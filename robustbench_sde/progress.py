"""Report progress: long work calls these objects, the command line draws them."""

from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Receiver of the progress of one kind of work."""

    def start(self, description: str, total: int) -> None:
        """Begin a new piece of work of `total` units (images, batches)."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more units as done; `note` replaces the text behind the bar."""


class Silent:
    """Shows nothing."""

    def start(self, description: str, total: int) -> None:
        """Nothing."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Nothing."""


SILENT = Silent()


@dataclass(frozen=True)
class Bars:
    """Two receivers: for the cells of a run, and for the images of the current cell."""

    cells: Progress = SILENT
    images: Progress = SILENT
