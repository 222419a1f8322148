"""Sources of cells: a checkpoint file, a classifier in memory, or a factory of somebody's module."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute, check_precision
from robustbench_sde.models.modules.adapter import Interface, ModuleClassifier, Normalisation
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.storage.provenance import file_sha256


def gone(path: Path) -> BenchError:
    """What to say of a file that was there when the run began."""
    return BenchError(f"{path} has gone since the run began; put it back and run it again")


@dataclass(frozen=True)
class Source:
    """A checkpoint file, and the noise, solver and precision it is to be evaluated with."""

    path: Path
    #: of the file's bytes
    sha256: str
    sigma: float | None = None
    noise: bool = True
    precision: str = "fp32"
    #: None: as trained
    solver: str | None = None
    solver_steps: int | None = None
    #: kinds of the noise that acts at test time; none: its forward pass is deterministic
    kinds: tuple[str, ...] = field(default=("",), compare=False)

    @classmethod
    def of(
        cls,
        path: Path,
        data: ImageDataset,
        *,
        sigma: float | None = None,
        noise: bool = True,
        precision: str = "fp32",
        solver: str | None = None,
        solver_steps: int | None = None,
    ) -> "Source":
        """Reads and hashes the file once. Raises BenchError unless it is sound and fits `data`."""
        if not path.stem.isprintable():  # it will stand in tables, logs and pages
            raise BenchError(f"the name of {str(path)!r} has control characters; rename it")
        trained = load_checkpoint(path, noise=noise, precision=precision)
        model = trained.with_noise(sigma=sigma, enabled=noise)
        model = model.with_solver(solver=solver, steps=solver_steps)
        if model.image_shape != data.image_shape:
            takes, given = ("x".join(map(str, shape)) for shape in (model.image_shape, data.image_shape))
            raise BenchError(
                f"{path} takes images of {takes} (channels x height x width), "
                f"those of {data.name} are {given}"
            )
        return cls(  # what is asked for is None where it is its own: then it is the same work
            path,
            file_sha256(path),
            sigma=None if model.sigma == trained.sigma else sigma,
            noise=noise,
            precision=precision,
            solver=None if model.solver == trained.solver else solver,
            solver_steps=None if model.steps == trained.steps else solver_steps,
            kinds=tuple(term.kind for term in model.spec.active_noise),
        )

    @property
    def stochastic(self) -> bool:
        """Whether its forward pass is random."""
        return bool(self.kinds)

    def load(self, compute: Compute) -> RandomClassifier:
        """The model, ready to be evaluated. Raises BenchError if the file is no longer the same, or there."""
        if not self.path.exists():
            raise gone(self.path)
        if file_sha256(self.path) != self.sha256:
            raise BenchError(f"{self.path} has changed since the run began; run it again")
        return load_checkpoint(
            self.path,
            sigma=self.sigma,
            noise=self.noise,
            precision=self.precision,
            solver=self.solver,
            steps=self.solver_steps,
            device=compute,
        )


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
