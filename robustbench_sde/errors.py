"""Define exit codes, and errors that users see as one sentence."""

import difflib
import functools
import re
import warnings
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes, with one meaning for every command."""

    #: everything asked for was done
    OK = 0
    #: `compare` found that robustness has regressed
    REGRESSION = 1
    #: an argument, a file or a value was wrong (Typer uses 2 for usage errors too)
    INPUT_ERROR = 2
    #: too few images or draws to decide
    INCONCLUSIVE = 3
    #: a control, a verification or an audit failed: the numbers must not be used
    INVALID = 4
    #: a fault of this program (EX_SOFTWARE of sysexits.h); the traceback on stderr says where
    CRASHED = 70
    #: Ctrl-C or SIGTERM; the line on stderr says how to go on
    INTERRUPTED = 130


class BenchError(Exception):
    """A problem that the user can act on.

    The message is one line that says what is wrong, where (file, key, value) and what to do.
    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = ExitCode.INPUT_ERROR


class InvalidEvaluationError(BenchError):
    """A control, verification or audit failed: the numbers must not be used."""

    exit_code = ExitCode.INVALID


class InterruptedWorkError(BenchError):
    """Ctrl-C or SIGTERM; the message says how to go on."""

    exit_code = ExitCode.INTERRUPTED


class BenchWarning(UserWarning):
    """Something that the user should know and that stops nothing; the program prints it as one line."""


def tell(message: str, *, stacklevel: int = 1) -> None:
    """Warn the user, whatever general filters of warnings somebody's code has set.

    ``warnings.filterwarnings("ignore")`` stands in many training scripts that a model comes from; a filter
    that names `BenchWarning`, a message or a module is meant, and obeyed.

    Args:
        message: one line.
        stacklevel: 1 for the caller of this function, as `warnings.warn` counts.
    """
    general = [("ignore", None, category, None) for category in (Warning, UserWarning)]
    matching = [found[:4] for found in warnings.filters if found[2] in BenchWarning.__mro__]
    with warnings.catch_warnings():
        if matching and matching[0] in general:
            warnings.simplefilter("always", BenchWarning)
        warnings.warn(message, BenchWarning, stacklevel=stacklevel + 1)


@functools.cache
def tell_once(message: str, *, stacklevel: int = 1) -> None:
    """Tell something once in a process; arguments as for `tell`."""
    tell(message, stacklevel=stacklevel + 1)


def printable(text: str) -> str:
    """Return text from a file as one line, without characters that move a cursor or hide text."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def one_line(error: BaseException, *, most: int = 300) -> str:
    """Return the type and the message of a foreign error as one line of at most about `most` characters."""
    text = printable(str(error))[:most]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


#: what pydantic and several versions of Typer say of a wrong value, and what we say
_WORDS = {
    r"Input should be": "must be",
    r"a valid int(eger)?\b.*": "a whole number",
    r"a valid (number|float).*": "a number",
    r"a valid boolean.*": "true or false",
    r"a valid string": "a text",
    r"a valid (list|tuple)": "a list",
    r"a valid dict.*": "a mapping",
    r"greater than or equal to": "at least",
    r"less than or equal to": "at most",
    r"greater than": "above",
    r"less than": "below",
}


def in_our_words(message: str) -> str:
    """Return the message of a validating library without the words of programmers."""
    message = message.removeprefix("Value error, ")
    for theirs, ours in _WORDS.items():
        message = re.sub(theirs, ours, message)
    return message


def counted(number: int | str, thing: str) -> str:
    """Return ``1 image`` or ``2 images``."""
    return f"{number} {thing}{'s' * (str(number) != '1')}"


def a_or_an(word: str) -> str:
    """Return a word with its article: ``a tuple``, ``an int``."""
    return f"a{'n' * (word[:1].lower() in 'aeiou')} {word}"


def duration(seconds: float) -> str:
    """Write a time as ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that the user may have meant; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BenchError:
    """Return an error that names the most similar known name, or all names if none is similar."""
    names = sorted(set(known))
    near = nearest(name, names)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return BenchError(f"unknown {kind} {name!r}; {hint}")
