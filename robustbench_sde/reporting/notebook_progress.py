"""Draw progress below the cell of a notebook, by IPython alone: no widgets need to be installed."""

import html
import importlib
import sys
import time
from typing import Any

#: seconds between two updates of the display
_INTERVAL = 0.2


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython in a terminal is not."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookBoard:
    """Bars below a cell, drawn again at most every `_INTERVAL` seconds."""

    def __init__(self) -> None:
        self._bars: list[_NotebookBar] = []
        self._handle: Any = None
        self._drawn = 0.0

    def add(self) -> "_NotebookBar":
        """Return a new bar below the others."""
        bar = _NotebookBar(self)
        self._bars.append(bar)
        return bar

    def draw(self, *, now: bool = False) -> None:
        """Show all bars that have been started, unless that was done a moment ago."""
        if not now and time.monotonic() - self._drawn < _INTERVAL:
            return
        self._drawn = time.monotonic()
        self._show(_Html("".join(bar.html() for bar in self._bars), "\n".join(map(str, self._bars))))

    def clear(self) -> None:
        """Remove the bars; nothing is left in the notebook but an empty output."""
        if self._handle is not None:
            self._show(_Html("", ""))

    def _show(self, shown: "_Html") -> None:
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)


class _NotebookBar:
    """Receiver of progress; texts come from models and data, and are escaped."""

    def __init__(self, board: NotebookBoard) -> None:
        self._board = board
        self._description, self._note = "", ""
        self._total, self._done = 0, 0
        self._started = time.monotonic()

    def start(self, description: str, total: int) -> None:
        self._description, self._note, self._total, self._done = description, "", total, 0
        self._started = time.monotonic()
        self._board.draw(now=True)

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        self._board.draw()

    def html(self) -> str:
        """Return the bar; nothing before it is started."""
        if not self._total:
            return ""
        bar = f'<progress max="{self._total}" value="{self._done}" style="vertical-align:middle"></progress>'
        return f"<div>{bar} {html.escape(str(self))}</div>"

    def __str__(self) -> str:
        if not self._total:
            return ""
        left = (time.monotonic() - self._started) / max(1, self._done) * (self._total - self._done)
        text = f"{self._done}/{self._total} {self._description}, {left:.0f} s left"
        return f"{text}, {self._note}" if self._note else text


class _Html:
    """HTML with a plain text for places that show none."""

    def __init__(self, text: str, plain: str) -> None:
        self._text, self._plain = text, plain

    def _repr_html_(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._plain
