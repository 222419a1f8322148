"""CPU time of an audit, its verdicts and its power, against another source tree of this package.

    python -m benchmarks.audit_cost [CHECKPOINT ...] --before FOLDER [--images 40] [--repeats 1] [--threads 1]

Every audit runs in a process of its own, one after the other of each tree in turn, with the settings of
`sde-bench audit`. Seconds are CPU time of the audit, the least of all repeats. Different verdicts are named.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers import CHECKPOINTS
from benchmarks.trees import run_in

HEADER = """
| checkpoint | CPU s before | CPU s | ratio | verdict before | verdict | other rules | power before | power |
|---|---|---|---|---|---|---|---|---|"""

#: Run in a process of its own, so that another source tree can be imported.
_CHILD = """
import json, sys, time, torch
import robustbench_sde as rb
asked = json.loads(sys.argv[1])
torch.set_num_threads(asked["threads"])
model = rb.load_checkpoint(asked["checkpoint"])
data = rb.load_dataset(asked["dataset"], images=asked["images"])
started = time.process_time()
report = rb.audit(model, data)
seconds = time.process_time() - started
rules = {rule.name: rule.verdict for rule in report.rules}
print(json.dumps({"seconds": seconds, "verdict": report.verdict, "seen": report.seen, "rules": rules}))
"""


def audited(tree: Path, checkpoint: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run an audit of a source tree."""
    asked = {
        "checkpoint": str(checkpoint.resolve()),
        **{name: getattr(options, name) for name in ("dataset", "images", "threads")},
    }
    found: dict[str, Any] = run_in(tree, _CHILD, asked)
    return found


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Give the Markdown rows, each as soon as it is known."""
    trees = (options.before, Path(__file__).parents[1])
    for checkpoint in options.checkpoints:
        runs = [[audited(tree, checkpoint, options) for tree in trees] for _ in range(options.repeats)]
        before, after = runs[-1]
        times = [min(run[tree]["seconds"] for run in runs) for tree in (0, 1)]
        changed = [
            f"{name} {before['rules'].get(name)} -> {verdict}"
            for name, verdict in after["rules"].items()
            if verdict != before["rules"].get(name)
        ]
        cells = (
            checkpoint.stem,
            *(f"{seconds:.1f}" for seconds in times),
            f"{times[1] / times[0]:.2f}",
            *(before["verdict"], after["verdict"]),
            ", ".join(changed) or "all equal",
            *(f"{100 * run['seen']:.0f} points" for run in (before, after)),
        )
        yield f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [f"digits-{kind}.safetensors" for kind in ("additive", "dropout", "multiplicative")]
    parser.add_argument("checkpoints", nargs="*", type=Path, default=[CHECKPOINTS / name for name in names])
    parser.add_argument("--before", type=Path, required=True, help="another source tree of this package")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    print(f"{options.dataset}, {options.images} images, {options.threads} threads")
    print(HEADER, flush=True)
    for row in rows(options):
        print(row, flush=True)


if __name__ == "__main__":
    main()
