"""Reports of stability, one JSON file for each checkpoint: `<folder>/stability/<checkpoint>.json`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.files import parse_json, read_sealed, write_sealed


def _nan_for_null(value: Any) -> Any:
    return math.nan if value is None else value


#: A float; NaN and infinity are null in JSON, and NaN again when it is read.
Number = Annotated[float, BeforeValidator(_nan_for_null)]


class Agreement(StrEnum):
    """Agreement of the measured exponent with the theorem."""

    #: sigma^2 > 2L, and the exponent is below 0
    AGREES = "agrees"
    #: the exponent is above the theorem's bound L - sigma^2 / 2
    CONTRADICTS = "contradicts"
    #: sigma^2 > 2L, and the interval of the exponent holds 0
    UNDECIDED = "undecided"
    #: sigma^2 <= 2L: the condition is sufficient, not necessary, and predicts nothing
    SILENT = "silent"
    #: the theorem is about other noise
    DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True)
class Estimate:
    """A mean over images and Brownian paths with two 95 % intervals; NaN where unknown."""

    estimate: Number
    #: over images
    low: Number
    high: Number
    #: over fresh Brownian paths, on the same images
    noise_low: Number
    noise_high: Number


@dataclass(frozen=True)
class StabilityCondition:
    """Sufficient condition of Liu et al. for stability, sigma^2 > 2L, with the constants beside it."""

    #: reason why the theorem does not apply to this noise; empty if it applies
    obstacle: str
    #: sigma^2 of the multiplicative term, mean over [0, T], smallest of all flows; NaN without such a term
    variance: Number
    #: L, the largest Lipschitz constant of the drift along the trajectories
    lipschitz: Number
    #: largest one-sided constant of the drift along the trajectories
    one_sided: Number
    #: part of the multiplicative noise in the exponent by theory, if the drift mixes all entries
    predicted_noise: Number
    agreement: Agreement

    @property
    def applies(self) -> bool:
        """Whether the theorem is about this noise."""
        return not self.obstacle

    @property
    def holds(self) -> bool:
        """Whether sigma^2 > 2L, for a noise to which the theorem applies."""
        return self.applies and self.variance > 2 * self.lipschitz

    @property
    def bound(self) -> float:
        """Upper bound of the exponent by the theorem, L - sigma^2 / 2; NaN if the theorem does not apply."""
        return self.lipschitz - self.variance / 2 if self.applies else math.nan


@dataclass(frozen=True)
class Course:
    """Size of a perturbation along the flow."""

    perturbation: str
    norm: str
    eps: Number
    severity: Number
    #: number of images that it changed at all; the others do not enter the means
    changed: int
    #: relative change |h(x + e) - h(x)| / |h(x)| at each of `StabilityReport.times`
    relative: tuple[Estimate, ...]
    #: exponent of a perturbation of this size: log(|h(x + e) - h(x)| at T over that at 0) / T
    rate: Estimate
    #: accuracy of the decision rule on the perturbed images, with its interval over images
    accuracy: Number
    accuracy_low: Number
    accuracy_high: Number


@dataclass(frozen=True)
class StabilityReport:
    """Measurements of the stability of a checkpoint."""

    checkpoint: str
    #: hash of the checkpoint's bytes; empty for a model that is not a file
    sha256: str
    #: hash of all that decides the numbers; empty for a report that is not stored
    key: str
    dataset: str
    images: int
    #: number of Brownian paths for each image
    paths: int
    seed: int
    noise: str
    #: shape of each noise term: independent, channel or scalar; joined by +
    noise_shape: str
    sigma: Number
    solver: str
    steps: int
    #: 0 and the end of every step; the last is T
    times: tuple[float, ...]
    #: finite-time top Lyapunov exponent over [0, T]
    exponent: Estimate
    #: parts of the drift and the noise in the exponent, in the limit of small steps
    drift_part: Estimate
    noise_part: Estimate
    #: the exponent of the direction that grows most, chosen for each path
    largest: Estimate
    #: log growth of a tangent vector since 0, at each of `times`
    growth: tuple[Estimate, ...]
    #: Lipschitz constants of the drift, mean along trajectories
    lipschitz: Estimate
    one_sided: Estimate
    condition: StabilityCondition
    #: accuracy on clean images
    accuracy: Number
    accuracy_low: Number
    accuracy_high: Number
    perturbations: tuple[Course, ...]
    seconds: float
    #: versions, device, threads and batch size that it was made with; empty for reports of earlier versions
    made_with: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return indented JSON that `from_json` reads."""
        return _REPORT.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "StabilityReport":
        """Read a report that `to_json` has written.

        Raises:
            BenchError: the text is something else.
        """
        return parse_json(_REPORT, text, _WHAT)


_REPORT = TypeAdapter(StabilityReport)
_WHAT = "stability report"
_REPORTS = TypeAdapter(list[StabilityReport])


def to_json(reports: Sequence[StabilityReport]) -> str:
    """Return several reports as an indented JSON list."""
    return _REPORTS.dump_json(list(reports), indent=2).decode()


def write_stability(folder: Path, report: StabilityReport) -> Path:
    """Write `<folder>/stability/<checkpoint>.json` atomically, and replace an earlier report.

    Raises:
        BenchError: the file cannot be written.
    """
    path = path_of(folder, report.checkpoint)
    write_sealed(path, report.to_json())
    return path


def read_stability(folder: Path, checkpoint: str) -> StabilityReport | None:
    """Read the report that `write_stability` has written about a checkpoint; None if there is none.

    Raises:
        BenchError: the file is damaged.
    """
    path = path_of(folder, checkpoint)
    if not path.exists():
        return None
    try:
        return read_sealed(_REPORT, path, _WHAT)
    except BenchError as error:
        raise BenchError(
            f"{path} is damaged, or of another version ({error}); delete it and run the command again"
        ) from error


def read_all_stability(folder: Path) -> list[StabilityReport]:
    """Read the reports that `write_stability` has written into a folder, in the order of their names.

    Raises:
        BenchError: a file is damaged.
    """
    place = folder / "stability"
    names = sorted(path.relative_to(place).with_suffix("").as_posix() for path in place.rglob("*.json"))
    found = [read_stability(folder, name) for name in names]
    return [report for report in found if report is not None]


def path_of(folder: Path, checkpoint: str) -> Path:
    """Return the file of a report."""
    return folder / "stability" / f"{checkpoint}.json"
