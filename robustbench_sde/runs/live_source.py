"""Cells of a classifier that is already in memory."""

import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.runs.cells import Source


@dataclass(frozen=True, kw_only=True)
class LiveSource(Source):
    """A classifier as somebody has made it, where it is.

    The numbers of one of ours follow from its specification and its weights, which make its `sha256`. What
    code of others computes cannot be known: that is new work every time.
    """

    model: RandomClassifier = field(compare=False, repr=False)

    @classmethod
    def around(cls, model: RandomClassifier) -> "LiveSource":
        """Hashes its weights once."""
        return cls(
            path=Path(f"{model.name.replace('/', '-')}.live"),
            sha256=_digest(model) if isinstance(model, Classifier) else f"live:{uuid.uuid4().hex}",
            precision=model.precision if isinstance(model, Classifier) else "fp32",
            kinds=(model.noise,) if model.stochastic else (),
            model=model,
        )

    def load(self, compute: Compute) -> RandomClassifier:
        """The classifier itself, wherever it is."""
        return self.model


def _digest(model: Classifier) -> str:
    digest = hashlib.sha256(model.spec.model_dump_json().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return f"live:{digest.hexdigest()}"
