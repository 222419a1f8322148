"""`--eot-draws auto` against the fixed default with equal budgets, by pgd and apgd-ce.

    python -m benchmarks.adaptive_draws [CHECKPOINT ...] [--dataset digits] [--images 200] [--eps 0.03]
                                        [--passes 160 400] [--threads 1]

Both may take so many gradient passes for an image, the search for the number of draws included.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS, percent
from robustbench_sde.data import to_float
from robustbench_sde.evaluation.statistics import paired, wilson
from robustbench_sde.perturbations.attacks.registry import make_attack

FIXED, SCORE_DRAWS = 8, 128


def main(arguments: list[str] | None = None) -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shipped = sorted(CHECKPOINTS.glob("digits-*"))
    noisy = [path for path in shipped if path.stem not in ("digits-ode", "digits-smoothed")]
    parser.add_argument("checkpoints", nargs="*", type=Path, default=noisy)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=float, default=0.03)
    parser.add_argument("--passes", type=int, nargs="+", default=[160, 400])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = rb.load_dataset(options.dataset, images=options.images)
    print(f"{data.name}, {len(data)} images, linf {options.eps:g}, {SCORE_DRAWS} score draws\n")
    print("| checkpoint | attack | passes | draws | used | accuracy left (95 %) | auto less fixed |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for checkpoint in options.checkpoints:
        model = rb.load_checkpoint(checkpoint)
        for name in ("pgd", "apgd-ce"):
            for passes in options.passes:
                stands: dict[str | int, np.ndarray] = {}
                for draws in (FIXED, "auto"):
                    started = time.process_time()
                    attack = make_attack(
                        name, eps=options.eps, steps=passes // FIXED, eot_draws=draws, passes=passes
                    )
                    made = attack(model, to_float(data.images), data.labels, data.ids)
                    seconds = time.process_time() - started
                    records = rb.score(model, data, made.images, score_draws=SCORE_DRAWS).records
                    stands[draws] = records["correct"].to_numpy(dtype=float)
                    left = percent(wilson(float(stands[draws].mean()), len(data)))
                    change = percent(paired(stands["auto"] - stands[FIXED])) if draws == "auto" else ""
                    used = f"{made.eot_draws.double().mean():.1f}, {made.backward_passes.double().mean():.0f}"
                    row = (model.name, name, passes, draws, f"{used} ({seconds:.0f} s)", left, change)
                    print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
