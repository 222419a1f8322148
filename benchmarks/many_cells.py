"""What `show`, `compare` and `report` cost on runs of thousands of cells, in CPU seconds.

    python -m benchmarks.many_cells RUN [--cells 2000 10000]

The cells of a real run are copied under other names of checkpoints until there are enough. Of each command
the CPU time of its process is given, less that of the same command on the run as it is.
"""

import argparse
import copy
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pandas as pd

from robustbench_sde.runs.tables import write_tables
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.spreadsheet import csv_text


def copies(run: RunFolder, place: Path, cells: int) -> RunFolder:
    """Write a run of so many cells, those of `run` again and again under other checkpoints."""
    made, manifest = RunFolder(place), run.read_manifest()
    rows, entries, checkpoints = [], [], {}
    for number, entry in zip(range(cells), _forever(manifest["cells"]), strict=False):
        stored = run.read_cell(entry["cell"])
        assert stored is not None
        turn = number // len(manifest["cells"])
        name = f"{entry['checkpoint']}-{turn}"
        key = sha256(f"{entry['cell']} {turn}".encode()).hexdigest()[:16]
        row = stored.row | {"checkpoint": name, "cell": key}
        made.write_cell(key, name, row, stored.records, stored.made_with)
        rows.append(row)
        entries.append(copy.deepcopy(entry) | {"cell": key, "checkpoint": name})
        checkpoints[name] = manifest["checkpoints"][entry["checkpoint"]]
    _copy_corruptions(run, made, {row["checkpoint"] for row in rows})
    summary = made.write_summary(rows)
    made.write_manifest(manifest | {"cells": entries, "checkpoints": checkpoints})
    write_tables(summary, entries, made, made.read_records)
    return made


def _copy_corruptions(run: RunFolder, made: RunFolder, checkpoints: set[str]) -> None:
    """Write the table of corruptions again and again, each time under other names of checkpoints."""
    told = run.read_corruptions()
    if told is None:
        return
    turns = sorted({int(name.rpartition("-")[2]) for name in checkpoints})
    parts = [told.assign(checkpoint=told["checkpoint"] + f"-{turn}") for turn in turns]
    table = pd.concat(parts)
    made.write_text("corruptions.csv", csv_text(table[table["checkpoint"].isin(checkpoints)]))


def _forever(entries: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    while True:
        yield from entries


def cpu_seconds(command: list[str], place: Path) -> float:
    """Run `sde-bench` and return the CPU time of its process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = subprocess.run(
        [sys.executable, "-m", "robustbench_sde", *command],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if found.returncode not in (0, 1, 3):
        raise SystemExit(found.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--cells", type=int, nargs="+", default=[2000])
    options = parser.parse_args()
    run = RunFolder(options.run.resolve())
    commands = {
        "show": ["show", "{}"],
        "show --json": ["show", "{}", "--json"],
        "compare": ["compare", "{}", "{}"],
        "report": ["report", "{}", "--out", "page"],
    }
    print(f"| cells | {' | '.join(commands)} |\n|{'---|' * (len(commands) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def cost(at: Path) -> list[float]:
            return [cpu_seconds([word.format(at) for word in words], place) for words in commands.values()]

        few = cost(run.path)
        print(f"| {len(run.read_manifest()['cells'])} | {' | '.join(f'{each:.1f} s' for each in few)} |")
        for cells in options.cells:
            many = copies(run, place / str(cells), cells)
            beyond = [more - less for more, less in zip(cost(many.path), few, strict=True)]
            print(f"| {cells} | {' | '.join(f'{each:+.1f} s' for each in beyond)} |", flush=True)


if __name__ == "__main__":
    main()
