"""Sources of cells: a checkpoint file, a classifier in memory, or a factory of somebody's module."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute, check_precision
from robustbench_sde.models.modules.adapter import Interface, ModuleClassifier, Normalisation
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.models.modules.factory import Factory, Origin
from robustbench_sde.models.modules.freezing import freeze
from robustbench_sde.models.modules.hub import HubModel
from robustbench_sde.models.modules.outputs import ClassMap
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.models.smoothed import Smoothed, check_smoothing, smoothed_name
from robustbench_sde.sde.solvers import SOLVERS
from robustbench_sde.storage.provenance import file_sha256


def file_is_gone(path: Path) -> BenchError:
    """Make the error for a file that disappeared during the run."""
    return BenchError(f"{path} has disappeared since the run began; put it back and run it again")


@dataclass(frozen=True)
class Source:
    """A classifier from a checkpoint, with the noise, solver and precision with which it is evaluated."""

    #: what tables call the classifier; no part of a cell's key
    name: str
    #: hash of all that decides its numbers: the bytes of the file
    sha256: str
    #: checkpoint file; None for a classifier that does not come from one
    path: Path | None = None
    #: noise scale at test time; None: as trained
    sigma: float | None = None
    noise: bool = True
    precision: str = "fp32"
    #: solver at test time; None: as trained
    solver: str | None = None
    #: number of steps of the solver; None: as trained
    solver_steps: int | None = None
    #: whether its solver at test time, trained or not, chooses its own steps
    adaptive: bool = field(default=False, compare=False)
    #: kinds of the noise that acts at test time; none: its forward pass is deterministic
    kinds: tuple[str, ...] = field(default=("",), compare=False)
    #: standard deviation of Gaussian noise on the image (`models.smoothed`); None: no smoothing
    smoothing: float | None = None
    #: number of its classes
    classes: int = field(default=0, compare=False)

    @classmethod
    def of(cls, path: Path, data: ImageDataset, **settings: Any) -> "Source":
        """Open a checkpoint and evaluate it with `settings`, those of `OpenedCheckpoint.evaluated_with`.

        Raises:
            BenchError: it is not sound, or does not fit `data`.
        """
        return OpenedCheckpoint.read(path, data).evaluated_with(**settings)

    @property
    def stochastic(self) -> bool:
        """Whether its forward pass is random."""
        return bool(self.kinds) or self.smoothing is not None

    def smoothed(self, smoothing: float) -> "Source":
        """Make a source of the same classifier behind Gaussian noise on the image; its name says so.

        Raises:
            BenchError: `smoothing` is out of range.
        """
        name = smoothed_name(self.name, check_smoothing(smoothing))
        return replace(self, name=name, smoothing=smoothing)

    @final
    def load(self, compute: Compute) -> RandomClassifier:
        """Load the model, smoothed if asked for, ready to be evaluated, under the name of this source.

        Raises:
            BenchError: a file or a module is no longer what it was.
        """
        inside = self.load_inside(compute)
        if self.smoothing is None:
            return inside
        model = Smoothed(inside, self.smoothing)
        model.name = self.name
        return model

    def load_inside(self, compute: Compute) -> RandomClassifier:
        """Load the model without smoothing.

        Raises:
            BenchError: the file is no longer there, or no longer the same.
        """
        if self.path is None or not self.path.exists():
            raise file_is_gone(self.path or Path(self.name))
        if file_sha256(self.path) != self.sha256:
            raise BenchError(f"{self.path} has changed since the run began; run it again")
        model = load_checkpoint(
            self.path,
            sigma=self.sigma,
            noise=self.noise,
            precision=self.precision,
            solver=self.solver,
            steps=self.solver_steps,
            device=compute,
        )
        model.name = self.name
        return model


@dataclass(frozen=True, eq=False)
class OpenedCheckpoint:
    """A checkpoint file that was read and hashed once; any number of sources can be made of it."""

    path: Path
    #: what tables call it
    name: str
    #: hash of the file's bytes
    sha256: str
    #: the classifier as trained
    model: Classifier

    @classmethod
    def read(cls, path: Path, data: ImageDataset, name: str = "") -> "OpenedCheckpoint":
        """Read and hash a checkpoint; its name is that of the file unless one is given.

        Raises:
            BenchError: it is not sound, or takes other images than those of `data`.
        """
        if not path.stem.isprintable():  # it will stand in tables, logs and pages
            raise BenchError(f"the name of {str(path)!r} has control characters; rename it")
        model = load_checkpoint(path)
        if model.image_shape != data.image_shape:
            takes, given = ("x".join(map(str, shape)) for shape in (model.image_shape, data.image_shape))
            raise BenchError(
                f"{path} takes images of {takes} (channels x height x width), "
                f"those of {data.name} are {given}"
            )
        return cls(path, name or path.stem, file_sha256(path), model)

    def evaluated_with(
        self,
        *,
        sigma: float | None = None,
        noise: bool = True,
        precision: str = "fp32",
        solver: str | None = None,
        solver_steps: int | None = None,
    ) -> Source:
        """Make a source of this checkpoint with a noise, a precision and a solver; None is as trained.

        Raises:
            BenchError: a value is out of range, or the solver does not take the noise.
        """
        check_precision(precision)
        trained = self.model.with_noise(enabled=noise)
        model = trained.with_noise(sigma=sigma, enabled=noise)
        model = model.with_solver(solver=solver, steps=solver_steps)
        return Source(  # a value that equals the trained one is None: then it is the same work
            self.name,
            self.sha256,
            self.path,
            sigma=None if model.sigma == trained.sigma else sigma,
            noise=noise,
            precision=precision,
            solver=None if model.solver == trained.solver else solver,
            solver_steps=None if model.steps == trained.steps else solver_steps,
            adaptive=SOLVERS[model.solver].order is None,
            kinds=tuple(term.kind for term in model.spec.active_noise),
            classes=model.classes,
        )


@dataclass(frozen=True, kw_only=True)
class LiveSource(Source):
    """A classifier in memory, on the device where it is.

    The numbers of one of ours follow from its specification and its weights, of which its `sha256` is made.
    What somebody else's code computes cannot be known: such a classifier is evaluated anew every time.
    """

    model: RandomClassifier = field(compare=False, repr=False)

    @classmethod
    def around(cls, model: RandomClassifier) -> "LiveSource":
        """Make the source of a classifier in memory; its weights are hashed once."""
        if isinstance(model, Smoothed):
            return replace(cls.around(model.model), smoothing=model.smoothing, name=model.name)
        return cls(
            name=model.name.replace("/", "-"),
            sha256=f"live:{uuid.uuid4().hex}" if model.built_in is None else _digest(model.built_in),
            precision=model.precision,
            kinds=(model.noise,) if model.stochastic else (),
            classes=model.classes,
            adaptive=model.built_in is not None and SOLVERS[model.solver].order is None,
            model=model,
        )

    def load_inside(self, compute: Compute) -> RandomClassifier:
        """Return the classifier itself, on the device where it is."""
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

    `sha256` covers all that is known to decide the module's numbers (`Factory.make`), so that a cell counts
    as done only if nothing of that has changed.
    """

    factory: Factory
    interface: Interface
    #: remarks for the user whose module it is
    notes: tuple[str, ...] = ()

    @classmethod
    def made_by(
        cls,
        factory: Factory,
        data: ImageDataset,
        *,
        normalisation: Normalisation | None = None,
        classes: int | None = None,
        class_map: ClassMap | None = None,
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
            module.to((compute or Compute()).device),
            data,
            name=factory.name,
            normalisation=normalisation,
            classes=classes,
            class_map=class_map,
        )
        if isinstance(module, HubModel):
            notes = (*notes, *(f"{factory.name}: {note}" for note in module.notes(data)))
        made = cls(
            name=factory.name,
            sha256=_sha256(digest, interface),
            kinds=() if interface.noise == "none" else (interface.noise,),
            classes=interface.classes,
            factory=factory,
            interface=interface,
            notes=notes,
        )
        return made.with_options(noise=noise, precision=precision)

    @classmethod
    def behind(cls, model: RandomClassifier) -> "ModuleSource | None":
        """Make the source of a classifier that a factory has made; None of any other."""
        if not isinstance(model, ModuleClassifier) or model.origin is None:
            return None
        origin, interface = model.origin, model.interface
        return cls(
            name=model.name,
            sha256=_sha256(origin.digest, interface),
            noise=origin.noise,
            kinds=() if interface.noise == "none" else (interface.noise,),
            classes=interface.classes,
            factory=origin.factory,
            interface=interface,
            notes=origin.notes,
        )

    def with_options(self, *, noise: bool, precision: str) -> "ModuleSource":
        """Make a source of the same module with another noise or precision.

        Raises:
            BenchError: its noise is opaque and to be switched off, or there is no such precision.
        """
        self.interface.check_noise(noise)
        return replace(self, noise=noise, precision=check_precision(precision))

    def describe(self) -> dict[str, Any]:
        """Describe the module for a manifest."""
        return {
            "model": Path(self.factory.text).name,
            "weights": None if self.factory.weights is None else self.factory.weights.name,
            "normalize": str(self.interface.normalisation),
            "classes": self.interface.classes,
            "class_map": None if self.interface.class_map is None else str(self.interface.class_map),
            "noise": self.interface.noise,
            "draws_per_pass": self.interface.draws_per_pass if self.interface.noise == "opaque" else None,
            "notes": list(self.notes),
        }

    def load_inside(self, compute: Compute) -> ModuleClassifier:
        """Make the module again, without smoothing, under the name of this source.

        Raises:
            BenchError: it is no longer the same.
        """
        module, digest = self.factory.make()
        if _sha256(digest, self.interface) != self.sha256:
            raise BenchError(
                f"{self.factory.name} has changed since the run began, or its weights are other ones each "
                "time it is made: run it again, or give `weights`"
            )
        precision = check_precision(self.precision, compute.device)
        interface = replace(self.interface, name=self.name, precision=precision)
        module = module.to(compute.device)
        freeze(module, interface)
        made = interface.around(module, noise=self.noise)
        made.origin = Origin(self.factory, digest, self.notes, self.noise)
        return made


def about_modules(sources: Sequence[Source]) -> dict[str, Any]:
    """Describe the modules among the sources, by name, for a manifest; empty if there are none."""
    modules = {source.name: source.describe() for source in sources if isinstance(source, ModuleSource)}
    return {"modules": modules} if modules else {}


def _sha256(digest: str, interface: Interface) -> str:
    facts = (
        f"{digest} {interface.normalisation} {interface.noise} {interface.draws_per_pass} {interface.alone} "
        f"{interface.fingerprint}"
    )
    if interface.class_map is not None:  # others keep the keys that they had
        facts += f" {interface.class_map}"
    return f"sha256:{hashlib.sha256(facts.encode()).hexdigest()}"
