"""Let somebody's code run without changing the process that runs it."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from robustbench_sde.errors import BenchError, one_line, tell_once
from robustbench_sde.output import others_print_to_stderr

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # somebody has deleted it
        return None


def _set_directory(path: Path | None) -> None:
    if path is not None:
        os.chdir(path)


def _set_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


def _set_handlers(handlers: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


#: What code can change of its process by accident, how it is found, and how it is put back.
_STATE: tuple[tuple[str, Callable[[], Any], Callable[[Any], object]], ...] = (
    ("the working directory", _directory, _set_directory),
    ("torch's default type of numbers", torch.get_default_dtype, torch.set_default_dtype),
    ("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    ("whether torch takes gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    ("sys.stdout or sys.stderr", lambda: (sys.stdout, sys.stderr), _set_streams),
    ("what a signal does", lambda: [signal.getsignal(number) for number in _SIGNALS], _set_handlers),
)


@contextlib.contextmanager
def contained(name: str) -> Iterator[None]:
    """Put back what code in the block changes of its process, say so once, and let it end nothing.

    In the program, what it prints goes to stderr.

    Args:
        name: whose code it is, in messages.

    Raises:
        BenchError: the code wants to end the program.
    """
    with others_print_to_stderr():
        before = [find() for _, find, _ in _STATE]
        try:
            yield
        except SystemExit as error:
            raise BenchError(f"{name} wants to end the program ({one_line(error)})") from error
        finally:
            for (what, find, put_back), found in zip(_STATE, before, strict=True):
                if find() != found:
                    put_back(found)
                    tell_once(f"{name} changes {what}: it is put back after each call", stacklevel=5)
