"""Networks that plug-in packages offer by name, in the entry point group ``robustbench_sde.models``."""

from collections.abc import Callable

from torch import nn

from robustbench_sde.errors import BenchError
from robustbench_sde.plugins import Plugins


def _from_plugin(name: str, factory: object) -> Callable[[], nn.Module]:
    if not callable(factory):
        raise BenchError(f"it is a {type(factory).__name__}; it must be a function that returns an nn.Module")
    return factory


MODEL_PLUGINS = Plugins("models", _from_plugin)
