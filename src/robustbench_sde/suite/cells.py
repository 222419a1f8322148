"""A cell: one checkpoint under one perturbation setting. The unit that is run, stored and resumed."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_sde.data import ImageDataset
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.results.provenance import file_sha256

#: Raised whenever a change of the code changes numbers, so that stored cells are not taken for new ones.
NUMERIC_VERSION = 2


@dataclass(frozen=True)
class Source:
    """A checkpoint file and the noise it is to be evaluated with."""

    path: Path
    #: of the file's bytes
    sha256: str
    sigma: float | None = None
    noise: bool = True

    @classmethod
    def of(cls, path: Path, *, sigma: float | None = None, noise: bool = True) -> "Source":
        """Reads and hashes the file once. Raises BenchError unless it is a sound checkpoint."""
        load_checkpoint(path, sigma=sigma, noise=noise)
        return cls(path, file_sha256(path), sigma, noise)

    def load(self, device: str) -> Classifier:
        """The model, ready to be evaluated."""
        return load_checkpoint(self.path, sigma=self.sigma, noise=self.noise, device=device)


@dataclass(frozen=True)
class Cell:
    """What is run."""

    source: Source
    perturbation: Perturbation
    settings: ScoreSettings

    def key(self, data: ImageDataset) -> str:
        """Hash of all that decides the numbers; batch sizes and devices do not."""
        parts = {
            "numeric_version": NUMERIC_VERSION,
            "checkpoint": self.source.sha256,
            "noise": [self.source.sigma, self.source.noise],
            "data": [data.fingerprint, data.ids.tolist()],
            "perturbation": repr(self.perturbation),
            "scoring": [self.settings.draws, self.settings.rule, self.settings.seed],
        }
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


def corruption_cells(
    source: Source, corruptions: Sequence[Perturbation], settings: ScoreSettings
) -> list[Cell]:
    """Clean, then every corruption."""
    return [Cell(source, perturbation, settings) for perturbation in (Clean(), *corruptions)]
