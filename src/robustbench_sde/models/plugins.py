"""Networks that plug-in packages offer by name, in the entry point group ``robustbench_sde.models``."""

from collections.abc import Callable

from torch import nn

from robustbench_sde.errors import BenchError
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.plugins import Plugins

#: called without arguments
ModelFactory = Callable[[], nn.Module | RandomClassifier]


def _from_plugin(name: str, factory: object) -> ModelFactory:
    if not callable(factory) or isinstance(factory, nn.Module):
        kind = type(factory).__name__
        raise BenchError(f"it is a {kind}; it must be a function that returns an nn.Module or a classifier")
    return factory


MODEL_PLUGINS = Plugins("models", _from_plugin)
