"""A cell: one checkpoint under one perturbation setting. The unit that is run, stored and resumed."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.evaluation.looks import LOOKS_VERSION
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.base import Attack, Control
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.runs.sources import Source
from robustbench_sde.sde.philox import NOISE_VERSION
from robustbench_sde.texts import short_budget

#: Raised whenever a change of the code changes numbers, so that stored cells are not taken for new ones.
NUMERIC_VERSION = 4
#: images of a part of a `CertifyCell`
PART = 8


@dataclass(frozen=True)
class Cell:
    """One classifier under one perturbation setting, scored in one way."""

    source: Source
    perturbation: Perturbation
    settings: ScoreSettings

    def key(self, data: ImageDataset) -> str:
        """Hash everything that determines the numbers; batch sizes, names and `Compute` do not."""
        return _hash(self._parts(data))

    def earlier_keys(self, data: ImageDataset) -> dict[str, str]:
        """Return the keys that earlier versions gave to this cell, with reasons why its numbers changed."""
        parts = self._parts(data)
        name = self.perturbation.describe()["perturbation"]
        reasons = {
            "revision": f"whose {name} had other numbers",
            "adaptive": "which solved whole batches with an adaptive solver",
            "targets": "which did not record the targets",
            "noise_definition": "which had other draws of the noise (noise definition 1)",
        }
        later = [part for part in reasons if part in parts]
        found: dict[str, str] = {}
        for gone in [*([part] for part in later), later]:
            rest = {part: value for part, value in parts.items() if part not in gone}
            if gone:
                found.setdefault(_hash(rest), f"stored by an earlier version, {reasons[gone[0]]}")
        return found

    def _parts(self, data: ImageDataset) -> dict[str, Any]:
        """Return all that decides the numbers, for JSON."""
        parts: dict[str, Any] = {
            "numeric_version": NUMERIC_VERSION,
            "checkpoint": self.source.sha256,
            "noise": [self.source.sigma, self.source.noise],
            **({} if self.source.precision == "fp32" else {"precision": self.source.precision}),
            "data": [data.fingerprint, data.ids.tolist()],
            "perturbation": repr(self.perturbation),
            "scoring": [self.settings.draws, self.settings.rule, self.settings.seed],
        }
        if self.perturbation.revision > 1:  # others keep the keys that they had
            parts["revision"] = self.perturbation.revision
        if self.noise_definition:
            parts["noise_definition"] = self.noise_definition
        if self.perturbation.provider:  # another version of a plug-in is other work
            parts["plugin"] = self.perturbation.provider
        solver = [self.source.solver, self.source.solver_steps]
        if any(solver):  # a checkpoint with its own has the key of versions that knew no other
            parts["solver"] = solver
        if self.source.adaptive or self.perturbation.adaptive:
            parts["adaptive"] = "one image a pass"  # earlier versions solved batches
        if self.perturbation.has_targets:  # earlier versions did not record the targets
            parts["targets"] = "recorded"
        if self.settings.try_draws > 1:
            parts["try_draws"] = self.settings.try_draws
        if self.source.smoothing is not None:
            parts["smoothing"] = self.source.smoothing
        return parts

    @property
    def noise_definition(self) -> int:
        """Version of the written definition of the noise that decides the numbers; 0 without noise."""
        return NOISE_VERSION if self.source.stochastic else 0

    @property
    def label(self) -> str:
        """Readable name, for files and plans."""
        described = self.perturbation.describe()
        budget = f" {described['norm']} eps={described['eps']:g}" if self.perturbation.budget else ""
        severity = float(described["severity"])
        level = "" if math.isnan(severity) else f" {severity:g}"
        return f"{self.source.name} {described['perturbation']}{budget}{level}"

    @property
    def title(self) -> str:
        """Readable name for progress bars, with the budget as it is typed: ``digits-ode pgd linf 8/255``."""
        described = self.perturbation.describe()
        eps = float(described["eps"])
        if not self.perturbation.budget or math.isnan(eps):
            return self.label
        budget = short_budget(eps)
        return f"{self.source.name} {described['perturbation']} {described['norm']} {budget}"


@dataclass(frozen=True)
class CertifyCell(Cell):
    """A smoothed classifier whose clean images are certified instead of scored.

    It is cut into parts of a few images, which are computed and stored one by one: an interruption loses one
    part at most.
    """

    #: draws, error, radii and rule
    certificate: CertifySettings = field(default_factory=CertifySettings)
    #: places of the first image and after the last one; None: all images
    part: tuple[int, int] | None = None

    @classmethod
    def of(cls, source: Source, certificate: CertifySettings) -> "CertifyCell":
        """Make the cell of a smoothed source.

        Raises:
            BenchError: the source has no noise on the image.
        """
        if source.smoothing is None:
            raise BenchError(f"{source.name} has no noise on the image: certificates need `smoothing`")
        score = ScoreSettings(1, certificate.rule, certificate.seed, certificate.rows)
        return cls(source, Clean(), score, certificate)

    def parts(self, images: int) -> list["CertifyCell"]:
        """Cut the cell into parts of `PART` images."""
        starts = range(0, images, PART)
        return [replace(self, part=(start, min(start + PART, images))) for start in starts]

    def key(self, data: ImageDataset) -> str:
        """Hash all that decides the certificates of these images or, of a part, of its own."""
        if self.part is not None:
            data = data.select(data.ids[slice(*self.part)])
        settings = f"{replace(self.certificate, rows=1)} looks {LOOKS_VERSION}"
        return hashlib.sha256(f"{super().key(data)} {settings}".encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """Readable name, for files and plans."""
        return f"{self.source.name} certified {self.certificate.rule}"


def attack_cells(source: Source, attacks: list[Attack], settings: ScoreSettings) -> list[Cell]:
    """Make the cells of a source: clean, the eps = 0 control, then the attacks."""
    perturbations = [Clean(), Control(attacks[0]), *attacks]
    return [Cell(source, perturbation, settings) for perturbation in perturbations]


def controlled(cells: Iterable[Cell]) -> Iterator[tuple[Cell, list[Cell]]]:
    """Find clean cells with their controls, which have to equal them to the last bit."""
    together: dict[object, list[Cell]] = {}
    for cell in cells:
        if not cell.perturbation.changes_images:
            together.setdefault((cell.source, cell.settings), []).append(cell)
    for group in together.values():
        clean = [cell for cell in group if isinstance(cell.perturbation, Clean)]
        controls = [cell for cell in group if isinstance(cell.perturbation, Control)]
        if clean and controls:
            yield clean[0], controls


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
