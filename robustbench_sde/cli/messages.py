"""Say messages of the library in the words of the command line: a parameter becomes its option."""

import re
from collections.abc import Sequence
from typing import Any

#: Parameters of Python functions whose option has another name.
_OTHER_NAMES = {
    "data": "dataset",
    "module": "model",
    "passes": "budget",
    "severities": "severity",
    "out": "name",
}


def with_options(message: str, program: Any, arguments: Sequence[str]) -> str:
    """Replace parameters in backquotes by the options of the command that is running.

    `` `eot_draws` `` becomes ``--eot-draws``, and `` `noise=False` `` becomes ``--no-noise``. Everything else
    in backquotes stays as it is.

    Args:
        message: a message of the library.
        program: the command of the whole program (`typer.main.get_command`).
        arguments: the words after the name of the program; the first ones name the command.
    """
    command = program
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return message
        if not hasattr(command, "commands"):
            break
    parameters = {parameter.name: parameter for parameter in command.params}

    def option(found: re.Match[str]) -> str:
        name, off = found.groups()
        parameter = next((parameters[each] for each in _spellings(name) if each in parameters), None)
        if parameter is None or not parameter.opts[0].startswith("--"):
            return found[0]
        return str((parameter.secondary_opts if off and parameter.secondary_opts else parameter.opts)[0])

    return re.sub(r"`(\w+)(=False)?`", option, message)


def _spellings(name: str) -> tuple[str, ...]:
    """List the names that the parameter of a command may have; one that is a Python word ends in _."""
    return name, f"{name}_", _OTHER_NAMES.get(name, name)
