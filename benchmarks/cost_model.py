"""Predicted against measured time of the cells of a suite, by kind of perturbation.

    OMP_NUM_THREADS=1 python benchmarks/cost_model.py [smoke] [--images 40] [--only pgd,fog] [--clock cpu]

What `sde-bench run SUITE --dry-run` prints, held to what a run in this process takes. On a busy machine,
`--clock cpu` counts work instead of time, for both.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from robustbench_sde.data import load_dataset
from robustbench_sde.models.compute import Compute
from robustbench_sde.runs.estimate import seconds_by_cell
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.suite.suite import Suite
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder


def main() -> None:
    """Predict, run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", nargs="?", default="smoke")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--only", help="perturbations, with commas")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.clock == "cpu":
        time.perf_counter = time.process_time  # which the estimate and the engine both read
    suite = Suite.read(options.suite)
    data = load_dataset(suite.spec.dataset, split="test").subset(options.images)
    shipped = sorted(Path("checkpoints").glob(f"{data.name}-*.safetensors"))
    cells = suite.cells([path for path in shipped if "smoothed" not in path.name], data)
    first = {(cell.source, cell.perturbation, cell.settings.seed): cell for cell in reversed(cells)}
    cells = [cell for cell in cells if cell in first.values()]  # in further scorings, images are there
    if options.only:
        wanted = options.only.split(",")
        cells = [cell for cell in cells if cell.perturbation.describe()["perturbation"] in wanted]
    predicted = seconds_by_cell(Work.of(cells, data), Compute())
    with tempfile.TemporaryDirectory() as folder:
        summary = run_cells(Work.of(cells, data), RunFolder(Path(folder))).summary
    table = pd.DataFrame(
        {
            "checkpoint": summary["checkpoint"],
            "perturbation": summary["perturbation"],
            "predicted": [predicted[cell] for cell in cells],
            "measured": summary["seconds"],
        }
    )
    for names in (["perturbation"], ["checkpoint"]):
        sums = table.groupby(names)[["predicted", "measured"]].sum()
        print(sums.assign(ratio=sums["predicted"] / sums["measured"]).round(2), "\n")
    total = table[["predicted", "measured"]].sum()
    print(f"all: {total['predicted']:.1f} s predicted, {total['measured']:.1f} s measured, "
          f"ratio {total['predicted'] / total['measured']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
