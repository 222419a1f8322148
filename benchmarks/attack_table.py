"""All attacks at two budgets, with intervals: is `auto` at or below every single one?

    python -m benchmarks.attack_table [CHECKPOINT ...] [--dataset digits] [--images 200] [--norm linf]
                                      [--eps 0.03 0.06] [--attacks auto,pgd,...] [--out reports/attack-table]

Every attack as it comes, so that costs differ; the table has the gradient passes of each. All images are
scored on the same draws, so `auto` is compared with an attack image by image. Stored cells are not run again.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS, percent
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.statistics import paired
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.registry import plan_attacks
from robustbench_sde.reporting.progress import progress_bars
from robustbench_sde.runs.cells import attack_cells
from robustbench_sde.runs.run import Run, run_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.texts import parse_budget

ATTACKS = {
    "linf": "auto,pgd,apgd-ce,apgd-dlr,apgd-targeted,fmn,square,noise,transfer,foolbox:LinfPGD",
    "l2": "auto,pgd,apgd-ce,apgd-dlr,apgd-targeted,cw,fmn,square,noise,transfer,foolbox:L2PGD",
}
HEADER = """
| checkpoint | eps | attack | accuracy (95 %) | over noise | auto less it, points (95 %) | verdict | passes |
|---|---|---|---|---|---|---|---|"""


def rows(run: Run) -> list[str]:
    """Markdown rows; the verdict on `auto` is `below`, `equal`, `within noise` or `above`."""
    attacked = run.summary[run.summary["eps"] > 0]
    lines = []
    for (checkpoint, eps), group in attacked.groupby(["checkpoint", "eps"], sort=False):
        stands = {
            row["perturbation"]: run.folder.read_records(row["cell"])["correct"].to_numpy(dtype=np.float64)
            for row in group[group["status"] == "ok"].to_dict("records")
        }
        for row in group.to_dict("records"):
            name = row["perturbation"]
            if name not in stands:
                lines.append(f"| {checkpoint} | {eps:.4g} | {name} | {row['status']} | | | | |")
                continue
            difference = paired(stands["auto"] - stands[name])
            verdict = "below" if difference.estimate < 0 else "equal"
            if difference.estimate > 0:
                verdict = "within noise" if difference.low <= 0 else "**above**"
            accuracy = (row[f"accuracy{end}"] for end in ("", "_low", "_high"))
            noise = f"{100 * row['noise_low']:.1f} to {100 * row['noise_high']:.1f}"
            shown = ("", "") if name == "auto" else (percent(difference), verdict)
            cells = (checkpoint, f"{eps:.4g}", name, percent(tuple(accuracy)), noise, *shown)
            lines.append(f"| {' | '.join(cells)} | {row['backward_passes']:.0f} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Run what is not stored, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkpoints",
        nargs="*",
        type=Path,
        default=[path for path in sorted(CHECKPOINTS.glob("digits-*")) if "smoothed" not in path.name],
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--norm", choices=sorted(ATTACKS), default="linf")
    parser.add_argument("--eps", type=parse_budget, nargs="+", default=[0.03, 0.06])
    parser.add_argument("--attacks", help="with commas; `auto` has to be there")
    parser.add_argument("--score-draws", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/attack-table"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = rb.load_dataset(options.dataset, images=options.images)
    names = (options.attacks or ATTACKS[options.norm]).split(",")
    attacks = plan_attacks(names, options.norm, options.eps, {}, {})
    settings = ScoreSettings(options.score_draws)
    sources = [Source.of(path, data) for path in options.checkpoints]
    cells = [cell for source in sources for cell in attack_cells(source, attacks, settings)]
    with progress_bars(quiet=False) as bars:
        run = run_cells(Work.of(cells, data), RunFolder(options.out), compute=Compute(), bars=bars)
    print(f"{data.name}, {len(data)} images, {options.norm}, {options.score_draws} score draws\n{HEADER}")
    print("\n".join(rows(run)))


if __name__ == "__main__":
    main()
