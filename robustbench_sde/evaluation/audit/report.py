"""Reports of audits, one JSON file for each checkpoint: `<folder>/audits/<checkpoint>.json`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter

from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.models.located import locate
from robustbench_sde.shown import html_of
from robustbench_sde.storage.files import parse_json, read_sealed, write_sealed
from robustbench_sde.storage.run_folder import RunFolder


class AuditVerdict(StrEnum):
    """Verdict of a rule, or of a whole audit, about the numbers."""

    #: nothing speaks against them
    PASS = "pass"
    #: they may be used, with what the rule says beside them
    WARN = "warn"
    #: they must not be used
    FAIL = "fail"
    #: too few images to tell: a rival much stronger than the attack would not have been seen
    INCONCLUSIVE = "inconclusive"
    #: the rule does not apply to this model; its message says why
    SKIP = "skip"

    @classmethod
    def worst(cls, verdicts: Iterable["AuditVerdict"]) -> "AuditVerdict":
        """Return the worst of several verdicts; skipped ones say nothing."""
        found = set(verdicts)
        ranked = (cls.FAIL, cls.INCONCLUSIVE, cls.WARN)
        return next((verdict for verdict in ranked if verdict in found), cls.PASS)


@dataclass(frozen=True)
class AuditRule:
    """One line of an audit."""

    name: str
    verdict: AuditVerdict
    #: one line, with the numbers that people want to see
    message: str
    #: all numbers behind it; accuracies and differences as [estimate, low, high] (95 %)
    numbers: dict[str, float | list[float] | str]


@dataclass(frozen=True)
class AuditReport:
    """Verdicts of all rules on one checkpoint, with the setting that was audited."""

    checkpoint: str
    #: hash of the checkpoint's bytes, `sha256:<hex>`; empty for a model that is not a file
    sha256: str
    dataset: str
    images: int
    seed: int
    verdict: AuditVerdict
    rules: tuple[AuditRule, ...]
    seconds: float
    #: the attack and the scoring whose number is audited
    setting: str = ""
    #: accuracy under the audited attack with its 95 % interval over images; None if it could not be attacked
    accuracy: Interval | None = None
    #: smallest excess of a rival, as a share, that every comparing rule would have seen in 80 % of audits
    seen: float | None = None

    def __repr__(self) -> str:
        """Return one line: the checkpoint, the verdict, and the number that it is about."""
        number = (
            "" if self.accuracy is None else f", {100 * self.accuracy.estimate:.1f} % under {self.setting}"
        )
        images = counted(self.images, "image")
        return f"<AuditReport: {self.verdict} {self.checkpoint}, {self.dataset}, {images}{number}>"

    def _repr_html_(self) -> str | None:
        """Return the table that the command prints, for notebooks."""
        return html_of(self)

    def write(self, folder: Path) -> Path:
        """Write `<folder>/audits/<checkpoint>.json` atomically, in place of an earlier one.

        In the folder of a run the checkpoint gets its name in that run: ``a/m`` beside ``b/m``.

        Raises:
            BenchError: the file cannot be written.
        """
        named = replace(self, checkpoint=_name_in(folder, self.checkpoint, self.sha256))
        path = _file_of(folder, named.checkpoint)
        write_sealed(path, named.to_json())
        return path

    def replaced_in(self, folder: Path) -> "AuditReport | None":
        """Return the report that `write` would replace by another one; None if there is none like that.

        Reports are of one audit if checkpoint, images, seed and settings are equal.
        """
        path = _file_of(folder, _name_in(folder, self.checkpoint, self.sha256))
        try:
            found = _read(path)
        except BenchError:  # none, or a damaged one, which says nothing
            return None
        return None if found._identity == self._identity else found

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.sha256, self.dataset, self.images, self.seed, self.setting

    def to_json(self) -> str:
        """Return indented JSON that `from_json` reads."""
        return _REPORT.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "AuditReport":
        """Read a report that `to_json` has written.

        Raises:
            BenchError: the text is something else.
        """
        return parse_json(_REPORT, text, _WHAT)


_REPORT = TypeAdapter(AuditReport)
_WHAT = "audit report"


def read_audits(folder: Path) -> list[AuditReport]:
    """Read the audits in a run folder, in the order of checkpoints; an empty list if there are none.

    Raises:
        BenchError: a file is damaged.
    """
    return [_read(path) for path in sorted((folder / "audits").rglob("*.json"))]


def _read(path: Path) -> AuditReport:
    try:
        return read_sealed(_REPORT, path, _WHAT)
    except BenchError as error:
        raise BenchError(f"{path} is damaged ({error}); delete it and audit again") from error


def _name_in(folder: Path, checkpoint: str, sha256: str) -> str:
    """Return the name of a checkpoint in the run of a folder; its own name if it is not in the run."""
    if not sha256 or not (folder / "manifest.yaml").exists():
        return checkpoint
    checkpoints = RunFolder(folder).read_manifest()["checkpoints"]
    names = [str(name) for name, sha in checkpoints.items() if sha == sha256]
    return checkpoint if checkpoint in names or not names else names[0]


def _file_of(folder: Path, checkpoint: str) -> Path:
    return folder / "audits" / f"{checkpoint}.json"


def default_folder(report: AuditReport, checkpoint: Path | None) -> Path:
    """Return `reports/audit-<checkpoint>`, or one named after the file's folder too if that has a namesake's.

    Args:
        report: report to write.
        checkpoint: its file or its name in checkpoints/; None for a model that is no file.
    """
    plain = Path("reports") / f"audit-{report.checkpoint}"
    others = {found.sha256 for found in read_audits(plain)} - {report.sha256}
    if checkpoint is None or not others:
        return plain
    return Path("reports") / f"audit-{locate(checkpoint).resolve().parent.name}-{report.checkpoint}"
