"""How robust is a classifier whose forward pass is random?

The whole public interface, fifteen functions; each is loaded on first use, so that importing the package is
instant. The types that they take and return are documented where they are (docs/api.md).
"""

import importlib
from typing import TYPE_CHECKING, Any

from robustbench_sde.version import __version__

if TYPE_CHECKING:
    from robustbench_sde.api.attack import attack
    from robustbench_sde.api.audit import audit
    from robustbench_sde.api.certify import certify
    from robustbench_sde.api.checkpoints import import_checkpoint, train
    from robustbench_sde.api.compare import compare
    from robustbench_sde.api.corrupt import corrupt
    from robustbench_sde.api.gate import init_gate
    from robustbench_sde.api.models import as_classifier
    from robustbench_sde.api.run import run
    from robustbench_sde.api.score import score
    from robustbench_sde.api.stability import stability
    from robustbench_sde.api.versus import versus
    from robustbench_sde.data import load_dataset
    from robustbench_sde.models.checkpoint import load_checkpoint

_LAZY = {
    "as_classifier": "robustbench_sde.api.models",
    "attack": "robustbench_sde.api.attack",
    "audit": "robustbench_sde.api.audit",
    "certify": "robustbench_sde.api.certify",
    "compare": "robustbench_sde.api.compare",
    "corrupt": "robustbench_sde.api.corrupt",
    "import_checkpoint": "robustbench_sde.api.checkpoints",
    "init_gate": "robustbench_sde.api.gate",
    "load_checkpoint": "robustbench_sde.models.checkpoint",
    "load_dataset": "robustbench_sde.data",
    "run": "robustbench_sde.api.run",
    "score": "robustbench_sde.api.score",
    "stability": "robustbench_sde.api.stability",
    "train": "robustbench_sde.api.checkpoints",
    "versus": "robustbench_sde.api.versus",
}

__all__ = [
    "__version__",
    "as_classifier",
    "attack",
    "audit",
    "certify",
    "compare",
    "corrupt",
    "import_checkpoint",
    "init_gate",
    "load_checkpoint",
    "load_dataset",
    "run",
    "score",
    "stability",
    "train",
    "versus",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
