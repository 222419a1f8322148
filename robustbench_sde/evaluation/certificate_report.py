"""Reports of certificates, one JSON file a smoothed checkpoint: `<folder>/certificates/<name>.json`."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.files import atomic_write, parse_json


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


@dataclass(frozen=True)
class CertificateReport:
    """Certificates of one smoothed classifier."""

    checkpoint: str
    sha256: str
    #: hash of all that decides the numbers
    key: str
    dataset: str
    images: int
    #: noise of the classifier inside
    noise: str
    #: deviation of the noise on the image
    smoothing: float
    rule: str
    #: largest number of draws of an image
    draws: int
    select_draws: int
    #: error probability of each certificate
    alpha: float
    seed: int
    #: attack of the bracket; empty without one
    attack: str
    score_draws: int
    brackets: tuple[Bracket, ...]
    #: mean over images of the radius, 0 where wrong or abstained
    average_radius: float
    #: share of images without any statement
    abstained: float
    #: mean over images of the draws used
    mean_draws: float
    #: ok, or `invalid: reason`: the row must not be used
    status: str
    seconds: float
    certificates: tuple[ImageCertificate, ...]

    @property
    def ok(self) -> bool:
        """Whether no certificate is contradicted."""
        return self.status == "ok"

    def to_json(self) -> str:
        """Return indented JSON that `from_json` reads."""
        return _REPORT.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "CertificateReport":
        """Read a report that `to_json` has written.

        Raises:
            BenchError: the text is something else.
        """
        return parse_json(_REPORT, text, "certificate report")


_REPORT = TypeAdapter(CertificateReport)
_REPORTS = TypeAdapter(list[CertificateReport])


def to_json(reports: list[CertificateReport]) -> str:
    """Return several reports as an indented JSON list."""
    return _REPORTS.dump_json(reports, indent=2).decode()


def write_certificates(folder: Path, report: CertificateReport) -> Path:
    """Write `<folder>/certificates/<name>.json` atomically, in place of an earlier one.

    Raises:
        BenchError: the file cannot be written.
    """
    path = folder / "certificates" / f"{report.checkpoint}.json"
    with atomic_write(path) as temporary:
        temporary.write_text(report.to_json() + "\n", encoding="utf-8")
    return path


def read_certificates(folder: Path, checkpoint: str) -> CertificateReport | None:
    """Read what `write_certificates` has written about a checkpoint; None if there is nothing.

    Raises:
        BenchError: the file is damaged.
    """
    path = folder / "certificates" / f"{checkpoint}.json"
    if not path.exists():
        return None
    try:
        return CertificateReport.from_json(path.read_bytes())
    except (OSError, BenchError) as error:
        raise BenchError(f"{path} is damaged ({error}); delete it and run the command again") from error
