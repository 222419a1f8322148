"""Turn Ctrl-C and SIGTERM into one exception, which nothing swallows."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

#: Commands that store each result as soon as it is known.
_RESUMABLE = ("attack", "certify", "corrupt", "run", "score", "stability", "study", "versus")
#: Seconds until an exception that was lost is raised again.
_SECONDS = 0.01


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Make SIGTERM raise KeyboardInterrupt, as Ctrl-C does, and lose neither.

    Python drops an exception that is raised in a callback of its own (of a weak reference, say, while torch
    is imported), and the program would go on; so it is raised again a moment later. Or a library that is
    being imported makes another exception of it.

    Yields:
        The list of signals received so far; after one, any end of the program is an interruption.
    """
    come: list[int] = []

    def interrupt(number: int, _: Any) -> None:
        come.append(number)
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGALRM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        numbers.append(signal.SIGINT)
    before = [signal.signal(number, interrupt) for number in numbers]
    hook, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        yield come
    finally:
        sys.unraisablehook = hook
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def how_to_go_on(command: str) -> str:
    """Say how to continue this command after an interruption at any moment."""
    if command in _RESUMABLE:
        return "the same command continues where this one stopped"
    return "no file is left incomplete; the same command starts again"


def how_to_see_it(command: str) -> str:
    """Say what remains of the work of this command if its results could not be printed."""
    if command in _RESUMABLE:
        return "what was computed is stored, and the same command shows it again"
    return "the same command starts again"


def _raise_again(lost: Any) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    else:
        sys.__unraisablehook__(lost)
