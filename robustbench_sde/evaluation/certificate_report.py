"""Reports of certificates: what is proven about a smoothed classifier, image by image and by radius."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.numbers import certified_at
from robustbench_sde.storage.cell_file import damaged
from robustbench_sde.storage.certificates import (
    file_of,
    read_certificates,
    read_certified,
    write_certificates,
    write_certified,
)
from robustbench_sde.storage.schema import CERTIFICATES, table

#: name of certified cells where attacks and corruptions have theirs
CERTIFIED_NAME = "certified"


@dataclass(frozen=True)
class ImageCertificate:
    """What is proven about one image."""

    image_id: int
    label: int
    prediction: int
    #: whether the lower bound is 1/2 or less, so that nothing is proven
    abstained: bool
    #: lower bound of the vote share or mean probability of the prediction
    p_low: float
    #: L2 radius in which the prediction is proven; 0 if abstained
    radius: float
    #: whether the prediction is the label and not abstained
    correct: bool
    #: draws of the `certify` stream that were used
    draws: int


@dataclass(frozen=True)
class Bracket:
    """Accuracy at one L2 radius: at least `certified`, at most `attacked`."""

    radius: float
    #: share of images that are right and certified beyond the radius, with its 95 % interval (Wilson)
    certified: tuple[float, float, float]
    #: accuracy under the attack with this budget, with its 95 % interval; None without an attack
    attacked: tuple[float, float, float] | None = None
    #: ids of images that are certified and fooled
    contradictions: tuple[int, ...] = ()
    #: name of the attack that leaves the lowest accuracy; empty at radius 0 and without one
    attack: str = ""


@dataclass(frozen=True)
class CertificateReport:
    """Certificates of one smoothed classifier."""

    #: name of the smoothed classifier, with its smoothing
    checkpoint: str
    sha256: str
    #: hash of all that decides the certificates
    key: str
    dataset: str
    #: hash of the pixels and labels of the whole split
    fingerprint: str
    images: int
    #: noise of the classifier inside, its scale (None: unknown), solver and steps
    noise: str
    sigma: float | None
    solver: str
    solver_steps: int
    #: deviation of the noise on the image
    smoothing: float
    rule: str
    #: largest number of draws of an image
    draws: int
    select_draws: int
    #: error probability of each certificate
    alpha: float
    #: whether images stop when further draws would change no answer
    early: bool
    seed: int
    brackets: tuple[Bracket, ...]
    #: mean over images of the radius, 0 where wrong or abstained
    average_radius: float
    #: share of images without any statement
    abstained: float
    #: mean over images of the draws used
    mean_draws: float
    #: ok, or `invalid: reason`, `failed: reason`: the report must not be used
    status: str
    seconds: float
    #: none if certifying has failed
    certificates: tuple[ImageCertificate, ...] = ()
    #: versions, device, threads and batch size that they were made with, or several of them as `pieces`;
    #: empty for certificates of earlier versions
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it may be used: it was made, and no certificate is contradicted."""
        return self.status == "ok"

    @property
    def attack(self) -> str:
        """Names of the attacks of the brackets; empty without one."""
        return ", ".join(dict.fromkeys(bracket.attack for bracket in self.brackets if bracket.attack))

    @property
    def records(self) -> pd.DataFrame:
        """One row per image (`CERTIFICATES`)."""
        names = [column.name for column in CERTIFICATES]
        rows = [asdict(certificate) for certificate in self.certificates]
        return table(pd.DataFrame(rows, columns=names), CERTIFICATES)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each radius (`CERTIFIED`)."""
        shared = {
            name: getattr(self, name)
            for name in (
                *("checkpoint", "dataset", "noise", "smoothing", "rule", "images", "average_radius"),
                *("abstained", "mean_draws", "draws", "select_draws", "alpha", "early", "seed", "seconds"),
                *("status", "fingerprint"),
            )
        }
        shared |= {"sigma": math.nan if self.sigma is None else self.sigma, "certificate": self.key}
        return [shared | _numbers_of(bracket) for bracket in self.brackets]


_REPORT = TypeAdapter(CertificateReport)
_REPORTS = TypeAdapter(list[CertificateReport])


def to_json(reports: Sequence[CertificateReport]) -> str:
    """Return several reports as an indented JSON list."""
    return _REPORTS.dump_json(list(reports), indent=2).decode()


def write_report(folder: Path, report: CertificateReport) -> Path:
    """Write the file of a report into a run folder, atomically: a row for each image, the rest as metadata.

    Raises:
        BenchError: the file cannot be written.
    """
    path = file_of(folder, f"{report.checkpoint} {report.rule}", report.key)
    about = _REPORT.dump_python(report, exclude={"certificates"})
    write_certificates(path, report.records, about)
    return path


def read_report(path: Path) -> CertificateReport:
    """Read what `write_report` has written, and check that the shares follow from the certificates.

    Raises:
        BenchError: the file is damaged.
    """
    about, records = read_certificates(path)
    images = [ImageCertificate(*row) for row in records.itertuples(index=False)]
    try:
        report: CertificateReport = _REPORT.validate_python(about | {"certificates": images})
    except ValidationError as error:
        raise BenchError(
            f"{path} is damaged (its metadata are no report); delete it and run again"
        ) from error
    for bracket in report.brackets:
        if abs(float(certified_at(records, bracket.radius).mean()) - bracket.certified[0]) > 1e-9:
            raise damaged(path, ValueError("its shares do not follow from its certificates"))
    return report


def write_reports(folder: Path, reports: Sequence[CertificateReport]) -> pd.DataFrame:
    """Write `certificates.parquet` and `.csv`, the rows of all reports of a run, and return the table."""
    return write_certified(folder, [row for report in reports for row in report.rows()])


def read_reports(folder: Path) -> tuple[CertificateReport, ...]:
    """Read the reports of a run folder in the order of its table.

    Raises:
        BenchError: a file is missing or damaged.
    """
    certified = read_certified(folder)
    if certified is None:
        return ()
    files = {path.stem.rpartition("-")[2]: path for path in (folder / "certificates").glob("*-*.parquet")}
    reports = []
    for key, rows in certified.groupby("certificate", sort=False):
        if rows["certified_accuracy"].isna().all():
            reports.append(_failed(rows))
        elif key in files:
            reports.append(read_report(files[str(key)]))
        else:
            raise BenchError(f"{folder} has no file of certificate {key}; run its command again")
    return tuple(reports)


def _failed(rows: pd.DataFrame) -> CertificateReport:
    """Make the report of a classifier that could not be certified from its rows, which are all there is."""
    row = rows.iloc[0].to_dict()
    known = {name: row[name] for name in row if name in CertificateReport.__dataclass_fields__}
    brackets = tuple(Bracket(float(radius), (math.nan,) * 3) for radius in rows["radius"])
    made = known | {"key": row["certificate"], "sha256": "", "solver": "", "solver_steps": 0}
    return CertificateReport(**made, brackets=brackets)


def _numbers_of(bracket: Bracket) -> dict[str, Any]:
    attacked = (math.nan,) * 3 if bracket.attacked is None else bracket.attacked
    ends = ("accuracy", "low", "high")
    return {
        "radius": bracket.radius,
        "attack": bracket.attack,
        "contradictions": len(bracket.contradictions),
        **{f"certified_{end}": value for end, value in zip(ends, bracket.certified, strict=True)},
        **{f"attacked_{end}": value for end, value in zip(ends, attacked, strict=True)},
    }
