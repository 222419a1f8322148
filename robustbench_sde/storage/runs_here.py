"""Find the runs in `reports/` by name, and say how far each has come."""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from robustbench_sde.errors import BenchError, nearest

#: folder in which commands write runs
REPORTS = Path("reports")


@dataclass(frozen=True)
class RunHere:
    """A run in `reports/`, finished or not."""

    name: str
    #: `complete`, `running`, `stopped`, or `damaged` where the summary does not follow from the stored cells
    state: str
    #: number of cells stored, of those that the run will have
    cells: int
    planned: int
    #: time of its last change, local, like ``2026-11-27 18:30``, or ``unknown``
    changed: str
    #: lowest accuracy in its summary, in [0, 1]; None without one
    lowest: float | None
    #: command that made it; empty if it was stopped before it could write that
    command: str


def resolve(named: Path | str) -> Path:
    """Return the run of this name in `reports/`, if no file or folder is called so, or else the path."""
    path = Path(named)
    here = REPORTS / path
    return here if len(path.parts) == 1 and not path.exists() and here.is_dir() else path


def find_run(named: Path | str) -> Path:
    """Return the folder or file that is named, or the run of that name in `reports/`.

    Raises:
        BenchError: there is neither; names the most similar run.
    """
    path = resolve(named)
    if path.exists():
        return path
    near = nearest(str(named), _names())
    hint = f"did you mean {near!r}?" if near else "`sde-bench list runs` names the runs in reports/"
    raise BenchError(f"{named} does not exist; {hint}")


def newest_run() -> Path:
    """Return the folder in `reports/` whose tables were written last.

    Raises:
        BenchError: there is none.
    """
    tables = sorted(REPORTS.glob("*/summary.parquet"), key=lambda path: path.stat().st_mtime)
    if not tables:
        raise BenchError("reports/ holds no run; name the folder of one, or make one with `sde-bench attack`")
    return tables[-1].parent


def runs_here() -> list[RunHere]:
    """Return the runs in `reports/`, the one that changed last first."""
    found = [_look_at(REPORTS / name) for name in _names()]
    return sorted(found, key=lambda run: run.changed, reverse=True)


def _names() -> list[str]:
    return sorted({path.parent.name for path in REPORTS.glob("*/records")})


def _look_at(folder: Path) -> RunHere:
    records = list((folder / "records").glob("*-*.parquet"))
    latest = max([folder, *records], key=lambda path: path.stat().st_mtime).stat().st_mtime
    from robustbench_sde.storage.run_folder import RunFolder
    from robustbench_sde.storage.run_state import state_of

    progress = state_of(RunFolder(folder), estimate=False)
    state = progress.name
    try:
        lowest = _lowest(folder)
    except BenchError:  # a listing goes on; other commands say what is wrong
        lowest, state = None, state if progress.running else "damaged"
    return RunHere(
        name=folder.name,
        state=state,
        cells=progress.stored,
        planned=progress.planned,
        changed=_local_time(latest),
        lowest=lowest,
        command=progress.command,
    )


def _local_time(seconds: float) -> str:
    """Write a time since the epoch; `unknown` for one that no calendar has, from a clock that was wrong."""
    try:
        return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "unknown"


def _text(path: Path) -> str:
    """Return the text of a file; nothing if it cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _lowest(folder: Path) -> float | None:
    """Return the lowest accuracy of a run; each is compared with the row in the file of its cell.

    Raises:
        BenchError: one differs, or the records of the lowest were changed.
    """
    from robustbench_sde.storage.cell_file import read_row
    from robustbench_sde.storage.run_folder import RunFolder

    run = RunFolder(folder)
    if not (folder / "summary.parquet").exists():
        return None
    summary = run.read_summary()
    files = {path.stem.rpartition("-")[2]: path for path in (folder / "records").glob("*-*.parquet")}
    listed = re.findall(r'^- (?:cell: |\{"cell": ")(\w+)', _text(folder / "manifest.yaml"), re.MULTILINE)
    if listed and sorted(listed) != sorted(summary["cell"]):
        raise BenchError(f"{folder}: the summary has other cells than the manifest")
    sound = {}
    for cell, accuracy, status in zip(summary["cell"], summary["accuracy"], summary["status"], strict=True):
        if status != "ok":
            continue
        row = read_row(files[cell], cell) if cell in files else None
        if row is None or row["accuracy"] != accuracy or row["status"] != "ok":
            raise BenchError(f"{folder}: the summary does not follow from cell {cell}")
        sound[cell] = accuracy
    if not sound:
        return None
    lowest = min(sound, key=lambda cell: sound[cell])
    run.read_records(lowest)
    return float(sound[lowest])
