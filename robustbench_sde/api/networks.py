"""Networks of a result by kind, with the audits that are known of them: the facts behind `Result.versus`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.audit.report import AuditVerdict, read_audits
from robustbench_sde.models.located import known_checkpoints
from robustbench_sde.regression.kinds import kinds_by_header, kinds_by_pattern, parse_kinds
from robustbench_sde.storage.provenance import file_sha256


def kinds_of(
    kinds: str | Mapping[str, str] | None,
    names: Sequence[str],
    hashes: Mapping[str, str],
    files: Mapping[str, Path],
) -> dict[str, list[str]]:
    """Return the checkpoints of each kind, by pattern, or else by the headers of files in checkpoints/.

    Args:
        kinds: patterns of names by kind, or their text; None: by headers.
        names: names of all networks.
        hashes: hash of each checkpoint, by name; only files with this hash are looked at.
        files: checkpoint files by name, if they are known; others are looked for in checkpoints/.

    Raises:
        BenchError: a pattern is wrong or matches nothing, or a kind has one network twice.
    """
    if kinds is not None:
        found_kinds = kinds_by_pattern(parse_kinds(kinds) if isinstance(kinds, str) else kinds, names)
        return _of_different_networks(found_kinds, hashes)
    here = known_checkpoints() | dict(files)
    found = {
        name: here[name]
        for name in names
        if name in here and (name not in hashes or file_sha256(here[name]) == hashes[name])
    }
    return _of_different_networks(kinds_by_header(found), hashes)


def _of_different_networks(kinds: dict[str, list[str]], hashes: Mapping[str, str]) -> dict[str, list[str]]:
    """Refuse kinds of which a network counts as two trainings: a copy says nothing about trainings."""
    for kind, names in kinds.items():
        first: dict[str, str] = {}
        for name in names:
            twin = first.setdefault(hashes.get(name, name), name)
            if twin != name:
                raise BenchError(
                    f"{twin} and {name} are one network, not two trainings of {kind}: leave one of them out"
                )
    return kinds


def audit_warnings(folder: Path, names: Sequence[str], hashes: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each network whose audit failed, in this run folder or in the default one.

    An audit of other bytes under the same name does not count.
    """
    for name in names:
        stem = name.rpartition("/")[2]
        beside = [folder.parent / f"audit-{stem}", *sorted(folder.parent.glob(f"audit-*-{stem}"))]
        for place in (folder, *beside):
            try:
                audits = read_audits(place)
            except BenchError:  # a damaged audit says nothing
                continue
            for report in audits:
                sha = hashes.get(name, report.sha256)
                same = report.checkpoint == name and report.sha256 in ("", sha)
                same |= report.checkpoint == stem and report.sha256 == sha != ""
                if same and report.verdict is AuditVerdict.FAIL:
                    rules = ", ".join(rule.name for rule in report.rules if rule.verdict is AuditVerdict.FAIL)
                    yield f"the audit of {name} failed ({rules}): its numbers must not be used"
