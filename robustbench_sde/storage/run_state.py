"""Say how far a run has come: its cells, what is missing by checkpoint, and how long the rest may take."""

import fcntl
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sde.errors import BenchError, counted, duration, printable
from robustbench_sde.storage.cell_file import read_row
from robustbench_sde.storage.lock import CANNOT_LOCK
from robustbench_sde.storage.planned import keys_of, read_planned, started_at
from robustbench_sde.storage.run_folder import RunFolder

#: checkpoints that a sentence names; of others it says how many there are
_MOST_NAMES = 6


@dataclass(frozen=True)
class RunState:
    """How far a run has come."""

    #: whether a process holds the lock of the folder
    running: bool
    #: whether the manifest says that every cell has its row
    complete: bool
    #: number of cells and certificates that the run will have; those that are stored if nothing says so
    planned: int
    #: number of these that are stored
    stored: int
    #: number of missing cells and of all cells, by checkpoint, where one is missing
    missing: Mapping[str, tuple[int, int]]
    #: command of the run; empty if nothing says so
    command: str
    #: whether a plan says which cells the run will have; earlier versions wrote none
    has_plan: bool = True
    #: estimated seconds until a running run ends; None if it does not run or has stored nothing yet
    seconds_left: float | None = None

    @property
    def name(self) -> str:
        """One word: `running`, `complete` or `stopped`."""
        return "running" if self.running else "complete" if self.complete else "stopped"

    def described(self) -> dict[str, Any]:
        """Return state, command, counts of cells, missing cells by checkpoint, and seconds left, for JSON."""
        return {
            "state": self.name,
            "command": self.command,
            "stored": self.stored,
            "planned": self.planned if self.has_plan else None,
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
            "missing": {name: {"missing": missing, "of": of} for name, (missing, of) in self.missing.items()},
        }

    def sentences(self) -> list[str]:
        """Say what is missing, and how long it may take; nothing about a complete run."""
        if self.complete and not self.running:
            return []
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        if not self.has_plan and not self.running:
            return ["cells are missing"]
        if self.stored == self.planned:
            return [f"{counted(self.stored, 'cell')} stored, the tables are not finished"]
        found = [f"{self.stored} of {counted(self.planned, 'cell')} stored{left}"]
        if self.missing:
            parts = [
                f"{name} (all {of})" if missing == of else f"{name} ({missing} of {of})"
                for name, (missing, of) in self.missing.items()
            ]
            more = len(parts) - _MOST_NAMES
            rest = [f"{counted(more, 'other checkpoint')}"] if more > 0 else []
            found.append(f"missing: {', '.join([*parts[:_MOST_NAMES], *rest])}")
        return found


def is_running(folder: Path) -> bool:
    """Whether a process holds the lock of a run's folder; the lock is not taken.

    A disk that cannot lock files has no run: `locked` refuses to begin one.
    """
    try:
        with (folder / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, FileNotFoundError) and error.errno not in CANNOT_LOCK
    return False


def state_of(folder: RunFolder, *, estimate: bool = True) -> RunState:
    """Look how far a run has come; no lock is taken, and the records of cells are not read.

    Args:
        folder: folder of the run.
        estimate: whether to estimate the time that a running run still takes, for which the row of each
            stored cell is read.
    """
    running = is_running(folder.path)
    manifest = _manifest(folder)
    complete = bool(manifest and manifest["complete"]) and not running
    plan = None if complete else read_planned(folder)
    planned = plan or manifest
    files = {path.stem.rpartition("-")[2]: path for path in _files(folder.path)}
    if planned is None:
        return RunState(running, False, len(files), len(files), {}, "", has_plan=False)
    keys = keys_of(planned)
    command = printable(planned["command"])
    if complete:
        return RunState(running, True, len(keys), len(keys), {}, command)
    stored = {key: files[key] for key in keys & files.keys()}
    left = _seconds_left(folder, planned, stored) if running and estimate else None
    missing = dict(_missing(planned, stored.keys()))
    return RunState(
        running, False, len(keys), len(stored), missing, command, has_plan=plan is not None, seconds_left=left
    )


def manifest_so_far(folder: RunFolder, rows: Collection[str]) -> dict[str, Any]:
    """Return the manifest of an unfinished run: its plan, with the cells whose keys are in `rows`.

    Raises:
        BenchError: neither a plan nor a manifest can be read.
    """
    planned = read_planned(folder) or folder.read_manifest()
    cells = [entry for entry in planned["cells"] if entry["cell"] in rows]
    return planned | {"complete": False, "cells": cells}


def _manifest(folder: RunFolder) -> dict[str, Any] | None:
    try:
        return folder.read_manifest()
    except BenchError:
        return None


def _files(folder: Path) -> Iterator[Path]:
    yield from (folder / "records").glob("*-*.parquet")
    yield from (folder / "certificates").glob("*-*.parquet")


def _entries(planned: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return pairs of key and checkpoint of all cells and certificates."""
    certificates = [entry for entry in planned.get("certificates", []) if isinstance(entry, dict)]
    return [
        (str(entry.get("cell", entry.get("certificate"))), printable(str(entry.get("checkpoint", ""))))
        for entry in [*planned["cells"], *certificates]
    ]


def _missing(planned: Mapping[str, Any], stored: Collection[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    entries = _entries(planned)
    of = Counter(name for _, name in entries)
    missing = Counter(name for key, name in entries if key not in stored)
    yield from ((name, (missing[name], of[name])) for name in of if missing[name])


def _seconds_left(folder: RunFolder, planned: Mapping[str, Any], stored: Mapping[str, Path]) -> float | None:
    """Estimate the time of the missing cells from that of stored ones, and from the pace since the start.

    A missing cell takes as long as the stored cells of the same perturbation. One of a perturbation that is
    not stored yet takes the time of all stored cells in proportion to its passes (`_passes`). The pace is the
    time of the cells stored since the start over the time until the last of them, as with several workers.
    """
    entries = {str(entry["cell"]): entry for entry in planned["cells"]}
    rows = {key: read_row(path, key) for key, path in stored.items() if key in entries}
    seconds = {key: float(row["seconds"]) for key, row in rows.items() if row and "seconds" in row}
    times = {key: stored[key].stat().st_mtime for key in seconds}
    started = started_at(folder)
    now = time.time()  # earlier than what is stored where the clock was set back
    fresh = [key for key, when in times.items() if started is not None and started <= when <= now + 1]
    if started is None or not fresh:
        return None
    last = max(times[key] for key in fresh)
    pace = sum(seconds[key] for key in fresh) / max(last - started, 0.1)
    certain = {row["checkpoint"] for row in rows.values() if row and row.get("noise") == "none"}
    passes = {key: _passes(entry, certain) for key, entry in entries.items()}
    each_pass = sum(seconds.values()) / sum(passes[key] for key in seconds)
    by_kind: dict[str, list[float]] = {}
    for key, own in seconds.items():
        by_kind.setdefault(str(entries[key].get("perturbation")), []).append(own / passes[key])
    left = 0.0
    for key, entry in entries.items():
        if key not in stored:
            known = by_kind.get(str(entry.get("perturbation")))
            left += passes[key] * (sum(known) / len(known) if known else each_pass)
    return max(1.0, left / max(pace, 1e-3) - max(0.0, now - last))


def _passes(entry: Mapping[str, Any], certain: Collection[str]) -> float:
    """Count the forward passes of a cell for each image, roughly: a gradient costs as much as three.

    `certain` has the names of classifiers without noise, which take one draw whatever was asked for.
    """
    parameters, scoring = entry.get("parameters", {}), entry.get("scoring", {})
    one = entry.get("checkpoint") in certain
    steps, restarts, eot = (_number(parameters.get(name), 1) for name in ("steps", "restarts", "eot_draws"))
    score = 1.0 if one else _number(scoring.get("draws"), 64)
    attacked = 3 * steps * restarts * (1 if one else eot) if "steps" in parameters else 0.0
    return score + attacked


def _number(value: object, otherwise: float) -> float:
    try:
        return max(1.0, float(str(value)))
    except ValueError:
        return otherwise
