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
from collections.abc import Iterator, Mapping
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
from robustbench_sde.results.run_folder import RunFolder

SUITE = Path(__file__).with_name("paper.yaml")
#: budgets of the suite; 0 are the clean images
BUDGETS = (0.0, 0.25, 0.5)
#: kind of network, then an array (trainings, images) of what is counted right
Kinds = Mapping[str, npt.NDArray[np.float64]]


def kind_of(path: Path) -> str:
    """``cifar, multiplicative 0.5 scalar``: what the trainings of one kind have in common."""
    model = read_header(path).model
    terms = " + ".join(f"{term.kind} {term.sigma:g} {term.shape}" for term in model.noise)
    return f"{model.preset}, {terms or 'no noise'}"


def right(
    summary: pd.DataFrame, folder: RunFolder, attack: str, eps: float, column: str
) -> dict[str, npt.NDArray[np.float64]]:
    """What each checkpoint gets right, by its name: (images,), the numbers of a column of the records."""
    name = attack if eps else "clean"
    rows = summary[(summary["perturbation"] == name) & ((summary["eps"] == eps) | (not eps))]
    return {
        row["checkpoint"]: folder.read_records(row["cell"])[column].to_numpy(dtype=np.float64)
        for row in rows.to_dict("records")
    }


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


def checkpoint_rows(
    summary: pd.DataFrame, folder: RunFolder, kinds: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """Cells of the first table: accuracies, and by how much the paper's attack and scoring overstate them."""
    own, honest = (
        {eps: right(summary, folder, attack, eps, column) for eps in BUDGETS[1:]}
        for attack, column in (("liu2020", "share_correct"), ("apgd-ce", "correct"))
    )
    sound = {
        (row["checkpoint"], row["perturbation"], row["eps"]): row
        for row in summary.fillna({"eps": 0.0}).to_dict("records")
    }
    for name, kind in kinds.items():
        rows = [sound[name, "apgd-ce" if eps else "clean", eps] for eps in BUDGETS]
        accuracies = [
            percent(Interval(*(row[f"accuracy{end}"] for end in ("", "_low", "_high")))) for row in rows
        ]
        overstated = [percent(paired(own[eps][name] - honest[eps][name])) for eps in BUDGETS[1:]]
        yield (name, kind, *accuracies, *overstated)


def kind_rows(
    summary: pd.DataFrame, folder: RunFolder, kinds: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """Cells of the second table: means of each kind, less the first kind without noise."""
    by_budget: list[Kinds] = []
    for eps in BUDGETS:
        found = right(summary, folder, "apgd-ce", eps, "correct")
        by_budget.append(
            {k: np.stack([found[n] for n in kinds if kinds[n] == k]) for k in dict.fromkeys(kinds.values())}
        )
    plain = next((k for k in by_budget[0] if "no noise" in k), next(iter(by_budget[0])))
    for kind, trainings in by_budget[0].items():
        means = [f"{100 * found[kind].mean():.1f}" for found in by_budget]
        differences = ["" if kind == plain else percent(less(found, kind, plain)) for found in by_budget]
        yield (
            kind,
            str(len(trainings)),
            *(cell for pair in zip(means, differences, strict=True) for cell in pair),
        )


def table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A markdown table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


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
    heads = ("clean", "L2 .25", "L2 .5")
    overstated = ("overstated at .25, points", "at .5")
    print(table(("checkpoint", "kind", *heads, *overstated), checkpoint_rows(result.summary, folder, kinds)))
    differences = (cell for head in heads for cell in (head, "less without noise, points"))
    print()
    print(table(("kind", "trainings", *differences), kind_rows(result.summary, folder, kinds)))


if __name__ == "__main__":
    main()
