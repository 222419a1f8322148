"""Hand the course of a training to trackers: TensorBoard, MLflow, Weights & Biases, and those of plug-ins.

A new tracker is a class in `training/trackers.py` and a line in `TRACKERS`. A plug-in adds a function of a
`Training` that returns a `TrainingLogger`, under the entry point group ``robustbench_sde.loggers``.
"""

from collections.abc import Callable, Mapping, Sequence

from robustbench_sde.errors import BenchError, one_line, tell, unknown_name
from robustbench_sde.plugins import Plugins
from robustbench_sde.texts import names
from robustbench_sde.training.history import Epoch
from robustbench_sde.training.trackers import TRACKERS
from robustbench_sde.training.tracking import Training, TrainingLogger

#: Function that opens the logger of a training.
MakeLogger = Callable[[Training], TrainingLogger]
#: Names of loggers, with commas or in a list, or functions that open one.
Loggers = str | MakeLogger | Sequence[str | MakeLogger]


def _from_plugin(name: str, make: object) -> MakeLogger:
    if not callable(make):
        raise BenchError(f"it is {make!r}; it must be a function of a Training that returns a logger")
    return make


LOGGER_PLUGINS = Plugins("loggers", _from_plugin)


def find_loggers(asked: Loggers | None) -> list[MakeLogger]:
    """Return the functions that open the loggers asked for.

    Raises:
        BenchError: there is no logger of a name.
    """
    several = [] if asked is None else [asked] if isinstance(asked, str) or callable(asked) else asked
    found: list[MakeLogger] = []
    for each in several:
        if not isinstance(each, str):
            found.append(each)
            continue
        known = [*TRACKERS, *LOGGER_PLUGINS.names()]
        for name in names(each, known):
            make = TRACKERS.get(name) or LOGGER_PLUGINS.find(name)
            if make is None:
                raise unknown_name("logger", name, known)
            found.append(make)
    return found


class OpenLoggers:
    """Loggers of a training that runs. One that fails is left out from then on, with a warning.

    Raises:
        BenchError: one of them cannot be opened.
    """

    def __init__(self, makers: Sequence[MakeLogger], training: Training) -> None:
        self._loggers: list[TrainingLogger] = []
        for make in makers:
            try:
                self._loggers.append(make(training))
            except BenchError:
                raise
            except Exception as error:
                raise BenchError(f"`log`: a logger cannot be opened ({one_line(error)})") from error

    def epoch(self, row: Epoch) -> None:
        """Hand an epoch to all."""
        self._each(lambda logger: logger.epoch(row))

    def close(self, outcome: Mapping[str, float], *, finished: bool) -> None:
        """End all; further calls do nothing."""
        self._each(lambda logger: logger.close(outcome, finished=finished))
        self._loggers = []

    def _each(self, call: Callable[[TrainingLogger], None]) -> None:
        for logger in list(self._loggers):
            try:
                call(logger)
            except Exception as error:  # a server that is gone; the training goes on
                self._loggers.remove(logger)
                tell(f"`log`: {type(logger).__name__} has failed and gets no more epochs ({one_line(error)})")
