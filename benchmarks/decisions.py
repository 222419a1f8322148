"""Whether a suite decides the same whatever is chosen for speed, and as another version does.

    python -m benchmarks.decisions [CHECKPOINT ...] [--suite smoke] [--images 50] [--against SOURCE]

`--against` is the folder that holds another version's package (a worktree; its `src`, if it is older than the
flat layout). Every choice is a run of its own, and is
compared with one as it comes: images whose decision differs, and the largest difference of a margin. Attacks
go on from their gradients, so that rounding may move an image that is on the line. Exit status 1 where
decisions differ.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
#: Name of each choice, its options and its environment.
CHOICES: dict[str, tuple[list[str], dict[str, str]]] = {
    "two threads": ([], {"OMP_NUM_THREADS": "2"}),
    "--batch-size 32": (["--batch-size", "32"], {}),
    "--noise-backend device": (["--noise-backend", "device"], {}),
    "--memory-limit 1GB": (["--memory-limit", "1GB"], {}),
    "--compile": (["--compile"], {}),
}


def decisions(command: list[str], environment: dict[str, str]) -> pd.DataFrame:
    """The records of all cells of a run, in the order of its summary."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(
            [sys.executable, "-m", "robustbench_sde", *command, "--no-cache", "--quiet", "--name", "run"],
            cwd=place,
            env={**os.environ, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        folder = Path(place) / "reports" / "run"
        # as pandas reads them: another version may have other columns
        summary = pd.read_parquet(folder / "summary.parquet")
        files = [next((folder / "records").glob(f"*-{cell}.parquet")) for cell in summary["cell"]]
        return pd.concat(map(pd.read_parquet, files), ignore_index=True)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkpoints",
        nargs="*",
        type=Path,
        default=[
            path for path in sorted((ROOT / "checkpoints").glob("digits-*")) if "smoothed" not in path.name
        ],
    )
    parser.add_argument("--suite", default="smoke")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args(arguments)
    named = [str(path.resolve()) for path in options.checkpoints]
    command = ["run", options.suite, *named, "--images", str(options.images)]
    here = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    choices = dict(CHOICES)
    if options.against is not None:
        choices[f"the version in {options.against}"] = ([], {"PYTHONPATH": str(options.against.resolve())})
    base = decisions(command, here)
    print("| choice | decisions | differ | largest difference of a margin |\n|---|---|---|---|", flush=True)
    differ = 0
    for name, (extra, environment) in choices.items():
        other = decisions([*command, *extra], here | environment)
        assert (other["image_id"] == base["image_id"]).all()
        count = int((other["prediction"] != base["prediction"]).sum())
        largest = float((other["margin"] - base["margin"]).abs().max())
        print(f"| {name} | {len(base)} | {count} | {largest:.1e} |", flush=True)
        differ += count
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
