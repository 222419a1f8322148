"""A limit on the time of a measurement: rows that do not fit are left out, and the table says so."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class OutOfTime(Exception):
    """The time is over; raised in the middle of whatever is being done."""


class Budget:
    """A number of seconds from now on.

    Args:
        seconds: length.
        clock: function that returns seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._end - self._clock())

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield rows as they are measured, as long as one more as slow as the slowest so far fits.

        The last row says that rows were left out, if any were. Put rows that take long at the end.
        """
        slowest, measured, source = 0.0, 0, iter(rows)
        while self.left() > slowest:
            began = self._clock()
            try:
                row = next(source)
            except StopIteration:
                return
            slowest, measured = max(slowest, self._clock() - began), measured + 1
            yield row
        yield left_out(f"the rest, after {measured} rows: {self.left():.0f} s were left")

    @contextmanager
    def alarm(self) -> Iterator[None]:
        """Interrupt a block in the main thread when the time is over, by a signal.

        Raises:
            OutOfTime: it is.
        """

        def stop(*_: object) -> None:
            raise OutOfTime

        left = self.left()
        if not left:
            raise OutOfTime
        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def left_out(what: str) -> dict[str, Any]:
    """Make the row of a table that says what was not measured for lack of time."""
    return {"left out": what}
