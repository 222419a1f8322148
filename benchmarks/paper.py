"""Does noise make networks more robust? Several trainings of each kind of network beside each other.

    python -m benchmarks.paper CHECKPOINT ... [--dataset digits] [--images 200] [--threads 1]
                               [--out reports/paper]

Checkpoints that differ in the seed of their training alone are one kind, told by preset and noise. Two
tables: every checkpoint under the attack through the noise (`apgd-ce`, 40 steps, 8 draws a gradient, 32
score draws) and under the paper's own (`liu2020`: Adam, 20 steps, one draw, scored with one), and every
kind less the networks without noise. The cells are those of `sde-bench study budget` at its first two
budgets; stored ones, also those of other runs beside `--out`, are not run again.

The interval of a difference holds two things that add up as variances: other images (normal, of the
difference of each image, meaned over trainings) and other trainings (Student's t of their standard
deviation on these images, pooled over the kinds with several trainings, so that a kind with one has an
interval, too). Part of the first is in the second as well: the interval is, if anything, too wide.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import stats

import robustbench_sde as rb
from benchmarks.peers import percent
from robustbench_sde.evaluation.statistics import Interval, paired
from robustbench_sde.models.checkpoint import read_header
from robustbench_sde.reporting.progress import progress_bars
from robustbench_sde.reporting.studies import study_rows
from robustbench_sde.reporting.views import ACCURACY, OVERSTATED, VIEWS
from robustbench_sde.storage.run_folder import RunFolder, markdown

SUITE = Path(__file__).with_name("paper.yaml")
#: budgets of the suite, and how the tables call them
BUDGETS = {0.0: "clean", 0.25: "L2 .25", 0.5: "L2 .5"}
#: kind of network, then an array (trainings, images) of what is counted right
Kinds = Mapping[str, npt.NDArray[np.float64]]


def kind_of(path: Path) -> str:
    """``cifar, multiplicative 0.5 scalar``: what the trainings of one kind have in common."""
    model = read_header(path).model
    terms = " + ".join(f"{term.kind} {term.sigma:g} {term.shape}" for term in model.noise)
    return f"{model.preset}, {terms or 'no noise'}"


def less(kinds: Kinds, kind: str, than: str) -> Interval:
    """Mean accuracy of one kind less that of another, on the same images; how its interval is made: above."""
    of_images = paired(kinds[kind].mean(0) - kinds[than].mean(0))
    several = [found.mean(1) for found in kinds.values() if len(found) > 1]
    freedom = sum(len(found) - 1 for found in several)
    if not freedom:
        return of_images
    spread = math.sqrt(sum(found.var(ddof=1) * (len(found) - 1) for found in several) / freedom)
    of_trainings = (
        stats.t.ppf(0.975, freedom) * spread * math.sqrt(sum(1 / len(kinds[k]) for k in (kind, than)))
    )
    half = math.hypot((of_images.high - of_images.low) / 2, of_trainings)
    return Interval(of_images.estimate, of_images.estimate - half, of_images.estimate + half)


def checkpoint_table(summary: pd.DataFrame, folder: RunFolder, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Accuracies, and by how much the paper's attack and scoring overstate them: as `study budget` has it."""
    found = {
        (row["line"], row["perturbation"], row["across"]): row
        for row in study_rows(summary, folder, VIEWS["budget"]).to_dict("records")
    }
    lines = []
    for name, kind in kinds.items():
        line = {"checkpoint": name, "kind": kind}
        line |= {f"{head}, %": ACCURACY.text(found[name, "apgd-ce", eps]) for eps, head in BUDGETS.items()}
        line |= {
            f"overstated at {head}, points": OVERSTATED.text(found[name, "liu2020", eps])
            for eps, head in BUDGETS.items()
            if eps
        }
        lines.append(line)
    return pd.DataFrame(lines)


def kind_table(summary: pd.DataFrame, folder: RunFolder, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Mean accuracy of each kind, and less that of the first kind without noise."""
    lines = {kind: {"kind": kind, "trainings": list(kinds.values()).count(kind)} for kind in kinds.values()}
    plain = next((kind for kind in lines if kind.endswith("no noise")), next(iter(lines)))
    honest = study_rows(summary, folder, VIEWS["budget"]).query("perturbation == 'apgd-ce'")
    for eps, head in BUDGETS.items():
        at = honest[honest["across"] == eps]
        cells = dict(zip(at["line"], at["cell"], strict=True))
        right = {name: folder.read_records(cells[name])["correct"].to_numpy(np.float64) for name in kinds}
        by_kind = {kind: np.stack([right[name] for name in kinds if kinds[name] == kind]) for kind in lines}
        for kind, line in lines.items():
            line[f"{head}, %"] = f"{100 * by_kind[kind].mean():.1f}"
            line[f"{head} less without noise, points"] = (
                "" if kind == plain else percent(less(by_kind, kind, plain))
            )
    return pd.DataFrame(list(lines.values()))


def main(arguments: list[str] | None = None) -> None:
    """Run what is not stored, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/paper"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    kinds = {path.stem: kind_of(path) for path in options.checkpoints}
    with progress_bars(quiet=False) as bars:
        result = rb.run(
            SUITE, options.checkpoints, options.dataset, images=options.images, out=options.out, bars=bars
        )
    if not result.ok:
        raise SystemExit(f"cells of {options.out} have failed; their status is in summary.csv")
    folder = RunFolder(options.out)
    print(f"{options.dataset}, {options.images} images\n")
    for table in (checkpoint_table, kind_table):
        print(markdown(table(result.summary, folder, kinds)))


if __name__ == "__main__":
    main()
