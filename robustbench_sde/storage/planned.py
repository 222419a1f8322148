"""Write what a run is going to hold before its first cell, and say which run a folder holds.

`planned.json` is the manifest that the finished run will have. With it a run that was stopped, or that goes
on, can say which cells are missing, and another run can see that the folder is taken.
"""

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from robustbench_sde.errors import BenchError, counted, printable
from robustbench_sde.storage.listed import read_listed_yaml
from robustbench_sde.storage.run_folder import FORMAT, RunFolder, manifest_fault

_NAME = "planned.json"
#: more is not read: a plan has a few hundred bytes for each cell
_MOST_BYTES = 100_000_000
_LONGEST_COMMAND = 100


@dataclass(frozen=True)
class HeldRun:
    """The run that a folder holds, finished or not."""

    #: keys of its cells and certificates
    keys: frozenset[str]
    #: command that made it; empty if nothing says so
    command: str
    #: name of its suite; empty without one
    suite: str
    #: version of the numbers of its cells; None if nothing says so
    numeric_version: int | None = None
    #: whether it was made by a version whose manifests this one cannot read
    is_later: bool = False

    def __str__(self) -> str:
        command = self.command[:_LONGEST_COMMAND] + "..." * (len(self.command) > _LONGEST_COMMAND)
        by = "by a later version of sde-bench" if self.is_later else f"by `{command}`" if command else ""
        return counted(len(self.keys), "cell") + (f", made {by}" if by else "")


def write_planned(folder: RunFolder, manifest: dict[str, Any]) -> None:
    """Write the manifest that the finished run will have, atomically; its time is that of the start."""
    folder.write_text(_NAME, json.dumps(manifest, indent=1) + "\n")


def read_planned(folder: RunFolder) -> dict[str, Any] | None:
    """Read what `write_planned` has written; None if it is missing, damaged or that of another program."""
    path = folder.path / _NAME
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        planned = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return planned if isinstance(planned, dict) and manifest_fault(planned) is None else None


def started_at(folder: RunFolder) -> float | None:
    """Return the time of the last start of a run, in seconds since the epoch; None if it is not known."""
    try:
        return (folder.path / _NAME).stat().st_mtime
    except OSError:
        return None


def held_run(folder: RunFolder) -> HeldRun | None:
    """Say which run a folder holds: by its plan, its manifest, or the cells that are stored.

    None if there is no table and no stored cell of it, so that nothing can be lost.
    """
    stored = folder.stored() | {
        path.stem.rpartition("-")[2] for path in (folder.path / "certificates").glob("*-*.parquet")
    }
    has_tables = (folder.path / "summary.parquet").exists() or (folder.path / "certificates.parquet").exists()
    is_later = _is_later(folder)
    manifest = None if is_later else read_planned(folder) or _manifest(folder)
    if manifest is None:
        return HeldRun(frozenset(stored), "", "", is_later=is_later) if stored or is_later else None
    keys = keys_of(manifest)
    if not (has_tables or keys & stored):
        return None
    suite = manifest.get("suite")
    name = suite.get("name", "") if isinstance(suite, dict) else ""
    version = manifest.get("numeric_version")
    numeric = version if isinstance(version, int) else None
    return HeldRun(frozenset(keys), printable(manifest["command"]), str(name), numeric)


def _is_later(folder: RunFolder) -> bool:
    """Whether the plan or the manifest of a folder has a later format than this version writes."""
    found: list[object] = []
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found.append(json.loads((folder.path / _NAME).read_bytes()))
    with contextlib.suppress(BenchError):
        found.append(read_listed_yaml(folder.path / "manifest.yaml", "cells", megabytes=50))
    formats = [each.get("format") for each in found if isinstance(each, dict)]
    return any(isinstance(each, int) and each > FORMAT for each in formats)


def keys_of(manifest: dict[str, Any]) -> set[str]:
    """Return the keys of all cells and certificates that a manifest or a plan lists."""
    certificates = manifest.get("certificates", [])
    listed = certificates if isinstance(certificates, list) else []
    return {entry["cell"] for entry in manifest["cells"]} | {
        str(entry["certificate"]) for entry in listed if isinstance(entry, dict) and "certificate" in entry
    }


def _manifest(folder: RunFolder) -> dict[str, Any] | None:
    try:
        return folder.read_manifest()
    except BenchError:
        return None
