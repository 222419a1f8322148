"""What the GPU forward pass costs, and whether it keeps its promises.

    python -m benchmarks.gpu [--json FILE] [--minutes 9] [--only tests noise passes ...]

On a machine with a CUDA GPU, from a checkout, with the package and its test dependencies installed; needs no
network and no data. Runs the tests marked `gpu`, then prints the tables of docs/performance.md; `--json`
writes them with the card's name. After `--minutes` it stops: sections and rows that take long come last, and
what was left out is said. Ends with 2 where there is no GPU, with 1 where a test fails or the tests take too
long.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu.budget import Budget, OutOfTime, left_out

ROOT = Path(__file__).parents[2]


#: the tests marked `gpu`
PYTEST = [sys.executable, "-m", "pytest", "-m", "gpu", "-rs", "-p", "no:cacheprovider", "tests"]


def run_tests(command: list[str] = PYTEST) -> list[dict[str, Any]]:
    """Run every test that is marked `gpu`; a row for the summary.

    What was printed so far is shown even if the time is over before the end.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        finally:
            output.seek(0)
            text = output.read()
            print(text[-8000:], flush=True)
    lines = text.strip().splitlines()
    return [
        {
            "tests": lines[-1] if lines else "none",
            "exit": done.returncode,
            "seconds": time.perf_counter() - began,
        }
    ]


#: name of the section of tests
TESTS = "tests"


def sections() -> dict[str, Callable[[], Iterable[dict[str, Any]]]]:
    """List what can be run, by name, in this order."""
    from benchmarks.gpu import attacks, decisions, noise, passes

    return {
        TESTS: run_tests,
        "noise": noise.normals,
        "passes": lambda: passes.table(passes.SMALL),
        "scoring": attacks.scoring,
        "attack cells": attacks.cells,
        "decisions": lambda: decisions.differences(40, ("fp32", "tf32", "bf16")),
        "corruptions": attacks.corruptions,
        "large passes": lambda: passes.table(passes.LARGE),
        "compiled drifts": passes.compiled,
    }


def machine() -> dict[str, Any]:
    """The card and what computes on it."""
    import torch

    return {
        "card": torch.cuda.get_device_name(),
        "memory GiB": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
    }


def cells(row: dict[str, Any]) -> str:
    """A row of a table, in Markdown."""
    texts = (f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
    return f"| {' | '.join(texts)} |"


def main(arguments: list[str] | None = None) -> int:
    """Run the sections that are asked for, all unless `--only` names some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the tables to this file")
    parser.add_argument(
        "--only",
        nargs="+",
        help="these sections alone, by their titles",
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything (default: 9)")
    options = parser.parse_args(arguments)
    budget = Budget(60 * options.minutes)
    import torch

    if not torch.cuda.is_available():
        print("no CUDA GPU is available here: nothing was measured", file=sys.stderr)
        return 2
    document: dict[str, Any] = {"machine": machine()}
    print(document["machine"], flush=True)
    status = 0
    for name, section in sections().items():
        if options.only and name not in options.only:
            continue
        began = time.perf_counter()
        print(f"\n{name}", flush=True)
        rows: list[dict[str, Any]] = []
        status = max(status, run_section(name, section, budget, rows))
        document[name] = rows
        document.setdefault("seconds", {})[name] = time.perf_counter() - began
        if options.json:
            options.json.write_text(json.dumps(document, indent=1) + "\n")
    return status


def run_section(
    name: str,
    section: Callable[[], Iterable[dict[str, Any]]],
    budget: Budget,
    rows: list[dict[str, Any]],
) -> int:
    """Print the rows of a section and append them to `rows`; an exit code: 1 if it failed, else 0."""
    try:
        with budget.alarm():
            for row in budget.rows(section()):
                if not rows or rows[-1].keys() != row.keys():
                    print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
                print(cells(row), flush=True)
                rows.append(row)
    except OutOfTime:
        print(f"{name}: the time is over; give --minutes or --only", flush=True)
        rows.append(left_out("the time was over"))
        return int(name == TESTS)
    except Exception as error:  # the other sections are worth having
        print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
        rows.append({"error": f"{type(error).__name__}: {error}"})
        return 1
    return int(any(row.get("exit", 0) != 0 for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
