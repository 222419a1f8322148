"""Cells of a user's own module."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models.compute import Compute, check_precision
from robustbench_sde.models.modules.adapter import Interface, ModuleClassifier, Normalisation
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.runs.cells import Source


@dataclass(frozen=True, kw_only=True)
class ModuleSource(Source):
    """A factory and what was found out about the module that it makes; loading runs the user's code.

    `sha256` is of all that is known to decide the module's numbers (`Factory.make`), so that a cell is taken
    for done only where nothing of that has changed.
    """

    factory: Factory
    interface: Interface
    #: what its owner should know
    notes: tuple[str, ...] = ()

    @classmethod
    def made_by(
        cls,
        factory: Factory,
        data: ImageDataset,
        *,
        normalisation: Normalisation | None = None,
        noise: bool = True,
        precision: str = "fp32",
        compute: Compute | None = None,
    ) -> "ModuleSource":
        """Run the factory and examine what it makes.

        Raises:
            BenchError: the code fails, the module cannot be evaluated as it is, or its noise is opaque and to
                be switched off.
        """
        module, digest = factory.make()
        interface, notes = examine(
            module.to((compute or Compute()).device), data, name=factory.name, normalisation=normalisation
        )
        made = cls(
            path=factory.path,
            sha256=_sha256(digest, interface),
            kinds=() if interface.noise == "none" else (interface.noise,),
            factory=factory,
            interface=interface,
            notes=notes,
        )
        return made.with_options(noise=noise, precision=precision)

    def with_options(self, *, noise: bool, precision: str) -> "ModuleSource":
        """The same module, evaluated in another way.

        Raises:
            BenchError: its noise is opaque and to be switched off, or there is no such precision.
        """
        self.interface.check_noise(noise)
        return replace(self, noise=noise, precision=check_precision(precision))

    def describe(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "model": Path(self.factory.text).name,
            "weights": None if self.factory.weights is None else self.factory.weights.name,
            "normalize": str(self.interface.normalisation),
            "noise": self.interface.noise,
            "draws_per_pass": self.interface.draws_per_pass if self.interface.noise == "opaque" else None,
            "notes": list(self.notes),
        }

    def load(self, compute: Compute) -> ModuleClassifier:
        """The module, ready to be evaluated. Raises BenchError if it is no longer the same."""
        module, digest = self.factory.make()
        if _sha256(digest, self.interface) != self.sha256:
            raise BenchError(
                f"{self.factory.name} has changed since the run began, or its weights are other ones each "
                "time it is made: run it again, or give --weights"
            )
        interface = replace(self.interface, precision=check_precision(self.precision))
        return interface.around(module.to(compute.device).requires_grad_(False), noise=self.noise)


def about_modules(sources: Sequence[Source]) -> dict[str, Any]:
    """What a manifest says about modules among the sources, by name; nothing where there are none."""
    modules = {source.path.stem: source.describe() for source in sources if isinstance(source, ModuleSource)}
    return {"modules": modules} if modules else {}


def _sha256(digest: str, interface: Interface) -> str:
    facts = f"{digest} {interface.normalisation} {interface.noise} {interface.draws_per_pass}"
    return f"sha256:{hashlib.sha256(facts.encode()).hexdigest()}"
