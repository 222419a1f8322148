"""How robust is a classifier whose forward pass is random?

The whole public interface; names are loaded on first use, so that importing the package is instant.
"""

import importlib
from typing import TYPE_CHECKING, Any

from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.version import __version__

if TYPE_CHECKING:
    from robustbench_sde.api import Result, as_classifier, as_module, attack, score
    from robustbench_sde.data import ImageDataset, load_dataset
    from robustbench_sde.evaluation.stability.analysis import stability
    from robustbench_sde.models.checkpoint import load_checkpoint
    from robustbench_sde.perturbations.corruptions.apply import corrupt

_LAZY = {
    "ImageDataset": "robustbench_sde.data",
    "Result": "robustbench_sde.api",
    "as_classifier": "robustbench_sde.api",
    "as_module": "robustbench_sde.api",
    "attack": "robustbench_sde.api",
    "corrupt": "robustbench_sde.perturbations.corruptions.apply",
    "load_checkpoint": "robustbench_sde.models.checkpoint",
    "load_dataset": "robustbench_sde.data",
    "score": "robustbench_sde.api",
    "stability": "robustbench_sde.evaluation.stability.analysis",
}

__all__ = [
    "BenchError",
    "ImageDataset",
    "InvalidEvaluationError",
    "Result",
    "__version__",
    "as_classifier",
    "as_module",
    "attack",
    "corrupt",
    "load_checkpoint",
    "load_dataset",
    "score",
    "stability",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
