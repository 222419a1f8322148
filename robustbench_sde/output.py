"""Standard output belongs to the results of the program; what other code prints goes to stderr."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from robustbench_sde.errors import BenchError


class OutputError(BenchError):
    """Standard output cannot be written: it is full, say, or closed."""


class ProgramOutput:
    """Standard output of the program: a text stream whose failures are one sentence.

    That the reader has left (`head`, say) is no failure, and stays a BrokenPipeError.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Wrap a stream; None: it is closed, as Python says it."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, and return its length."""
        with _in_words():
            if self._stream is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what is in the buffer."""
        with _in_words():
            if self._stream is not None:
                self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def own_stdout() -> Iterator[None]:
    """Keep standard output for what the program itself prints by `print`, within the block.

    Letters that its encoding lacks are written by their numbers. Whatever else writes to the file descriptor,
    a library in C or a process that is started, writes to stderr. Where stdout is no file, in a notebook say,
    this does not hold.

    Raises:
        OutputError: at the end, what was printed could not be written.
    """
    before = sys.stdout
    with contextlib.ExitStack() as stack:
        stream = before if before is None else stack.enter_context(_taken_from_others(before))
        sys.stdout = output = ProgramOutput(stream)
        stack.callback(setattr, sys, "stdout", before)
        yield
        output.flush()


@contextlib.contextmanager
def _taken_from_others(stream: TextIO) -> Iterator[TextIO]:
    """Yield a stream to where the given one goes, whose descriptor goes to stderr within the block."""
    try:
        number, elsewhere = stream.fileno(), sys.stderr.fileno()
        stream.flush()
        kept = os.dup(number)
    except (AttributeError, OSError, ValueError):  # no file
        yield stream
        return
    buffering = 1 if stream.isatty() else -1
    own = os.fdopen(kept, "w", buffering, encoding=stream.encoding, errors="backslashreplace")
    os.dup2(elsewhere, number)
    try:
        yield own
    finally:
        os.dup2(kept, number)
        with contextlib.suppress(OSError):  # `own_stdout` has said so
            own.close()


def others_print_to_stderr() -> contextlib.AbstractContextManager[object]:
    """Send to stderr what is printed in the block, if standard output is the program's; nothing otherwise."""
    if isinstance(sys.stdout, ProgramOutput):
        return contextlib.redirect_stdout(sys.stderr)
    return contextlib.nullcontext()
