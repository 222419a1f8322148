"""A cell: one checkpoint under one perturbation setting. The unit that is run, stored and resumed."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.storage.provenance import file_sha256

#: Raised whenever a change of the code changes numbers, so that stored cells are not taken for new ones.
NUMERIC_VERSION = 4


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


@dataclass(frozen=True)
class Cell:
    """What is run."""

    source: Source
    perturbation: Perturbation
    settings: ScoreSettings

    def key(self, data: ImageDataset) -> str:
        """Hash of all that decides the numbers; batch sizes and `Compute` do not."""
        parts = {
            "numeric_version": NUMERIC_VERSION,
            "checkpoint": self.source.sha256,
            "noise": [self.source.sigma, self.source.noise],
            **({} if self.source.precision == "fp32" else {"precision": self.source.precision}),
            "data": [data.fingerprint, data.ids.tolist()],
            "perturbation": repr(self.perturbation),
            "scoring": [self.settings.draws, self.settings.rule, self.settings.seed],
        }
        if self.perturbation.provider:  # another version of a plug-in is other work
            parts["plugin"] = self.perturbation.provider
        solver = [self.source.solver, self.source.solver_steps]
        if any(solver):  # a checkpoint with its own has the key of versions that knew no other
            parts["solver"] = solver
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A readable name, for files and bars."""
        described = self.perturbation.describe()
        budget = f" {described['norm']} eps={described['eps']:g}" if self.perturbation.budget else ""
        severity = float(described["severity"])
        level = "" if math.isnan(severity) else f" {severity:g}"
        return f"{self.source.path.stem} {described['perturbation']}{budget}{level}"


def attack_cells(source: Source, attacks: list[Attack], settings: ScoreSettings) -> list[Cell]:
    """Clean, the eps = 0 control, then the attacks."""
    perturbations = [Clean(), Control(attacks[0]), *attacks]
    return [Cell(source, perturbation, settings) for perturbation in perturbations]
