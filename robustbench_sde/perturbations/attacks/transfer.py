"""Transfer: made on one network, scored on another."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.header import read_header
from robustbench_sde.models.located import locate, locate_existing
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.apgd import APGDCrossEntropy
from robustbench_sde.sde.solvers import SOLVERS
from robustbench_sde.storage.provenance import file_sha256


@dataclass(frozen=True, kw_only=True)
class Transfer(APGDCrossEntropy):
    """apgd-ce on the same network without its noise, or on the checkpoint `source`.

    The attacked network itself is never evaluated.
    """

    name = "transfer"

    #: checkpoint whose gradients are used, a file or a name; None is the attacked network without its noise
    source: str | None = None
    #: hash of the bytes of `source`, so that another file of this name is another attack
    source_sha256: str = field(init=False, default="")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source is not None:
            file = locate_existing(Path(self.source))
            load_checkpoint(file)  # says what is wrong with it
            object.__setattr__(self, "source_sha256", file_sha256(file))

    @property
    def adaptive(self) -> bool:
        if self.source is None:
            return False
        return SOLVERS[read_header(locate(Path(self.source))).model.solver].order is None

    def files(self) -> tuple[Path, ...]:
        return () if self.source is None else (locate(Path(self.source)),)

    def moved(self, places: Mapping[Path, Path]) -> Self:
        return self if self.source is None else replace(self, source=str(places[self.files()[0]]))

    def crafted_on(self, model: RandomClassifier) -> RandomClassifier:
        if self.source is None:
            silent = model.without_noise()
            if silent is None:
                raise BenchError(
                    f"the noise of {model.name} cannot be switched off: give transfer a `source`"
                )
            return silent
        source = _load(self.source, self.source_sha256, str(model.device))
        if (source.image_shape, source.classes) != (model.image_shape, model.classes):
            raise BenchError(
                f"{self.source} takes images of shape {source.image_shape} in {source.classes} classes, "
                f"{model.name} {model.image_shape} in {model.classes}: the attack cannot transfer"
            )
        return source


@lru_cache(maxsize=2)
def _load(path: str, sha256: str, device: str) -> RandomClassifier:
    return load_checkpoint(Path(path), device=device)
