"""Does noise make networks more robust? Several trainings of each kind of network beside each other.

    python -m benchmarks.paper CHECKPOINT ... [--dataset digits] [--images 200] [--threads 1]
                               [--out reports/paper] [--reference NAME]

Two tables: every checkpoint under the attack through the noise (`apgd-ce`, 40 steps, 8 draws a gradient, 32
score draws) and under the paper's own (`liu2020`: Adam, 20 steps, one draw, scored with one); and every kind
less the reference, as `sde-bench versus` has it. Checkpoints whose headers differ in the seed of the training
alone are one kind; the reference is the first without noise. The cells are those of `sde-bench study budget`
at its first two budgets; stored ones, also those of other runs beside `--out`, are not run again.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

import robustbench_sde as rb
from robustbench_sde.models.header import read_header
from robustbench_sde.regression.kinds import describe_kind
from robustbench_sde.reporting.progress import progress_bars
from robustbench_sde.reporting.studies import study_rows
from robustbench_sde.reporting.versus import versus_markdown, write_versus
from robustbench_sde.reporting.views import ACCURACY, OVERSTATED, VIEWS
from robustbench_sde.runs.words import markdown
from robustbench_sde.storage.run_folder import RunFolder

SUITE = Path(__file__).with_name("paper.yaml")
#: budgets of the suite, and their names in the table
BUDGETS = {0.0: "clean", 0.25: "L2 .25", 0.5: "L2 .5"}


def checkpoint_table(summary: pd.DataFrame, folder: RunFolder, kinds: dict[str, str]) -> pd.DataFrame:
    """Return accuracies, and by how much the paper's attack and scoring overstate them, by checkpoint."""
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


def main(arguments: list[str] | None = None) -> None:
    """Run what is not stored, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/paper"))
    parser.add_argument("--reference")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    headers = {path.stem: read_header(path) for path in options.checkpoints}
    plain = next((name for name, header in headers.items() if not header.model.noise), next(iter(headers)))
    with progress_bars(quiet=False) as bars:
        result = rb.run(
            SUITE, options.checkpoints, options.dataset, images=options.images, out=options.out, bars=bars
        )
    if not result.ok:
        raise SystemExit(f"cells of {options.out} have failed; their status is in summary.csv")
    folder = RunFolder(options.out)
    print(f"{options.dataset}, {options.images} images\n")
    kinds = {name: describe_kind(header) for name, header in headers.items()}
    print(markdown(checkpoint_table(result.summary, folder, kinds)))
    versus = result.versus(options.reference or plain)
    write_versus(versus, folder)
    print(versus_markdown(versus))


if __name__ == "__main__":
    main()
