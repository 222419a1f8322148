"""How often an image that is left standing would have fallen: `perturbations.attacks.reach`, run on.

    python -m benchmarks.standing [CHECKPOINT ...] [--dataset digits] [--images 360] [--eps 0.03 0.06]
                                  [--steps 50] [--queries 500] [--draws 4] [--threads 1]

pgd runs on every image until it has gone as far as eps, and the reach of the image is noted. All images
with a reach above 1.25 are then attacked by `auto` with `settle=false` (members of `--steps`, `square` of
`--queries`), which leaves none alone, and scored on 128 draws. The table counts, for several factors, the
images that would have been left and those of them that fell.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.evaluation.bounds import clopper_pearson_high
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.reach import Reach
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.perturbations.norms import Ball, get_norm
from robustbench_sde.texts import parse_budget

FACTORS = (1.25, 1.5, 1.75, 2.0, 2.5)
STEPS = 20


def reach_of(model: RandomClassifier, data: ImageDataset, eps: float, draws: int) -> Tensor:
    """Reach of each image when pgd has gone as far as eps, (n,)."""
    ball, found = Ball(get_norm("linf"), eps), []
    for start in range(0, len(data), 64):
        part = data.subset(len(data)).select(data.ids[start : start + 64])
        images = to_float(part.images)
        victim = Victim(model, Batch(images, part.labels, part.ids), seed=0, eot_draws=draws, restart=0)
        reach, everywhere, x = Reach(ball, images), torch.arange(len(images)), images
        for step in range(1 + STEPS * 2 // 5):  # steps of 2.5 eps / STEPS
            look, gradient = victim.gradient(x, step)
            reach.learn(x, look, gradient, part.labels, everywhere, 3.0)
            x = ball.project(images, x + 2.5 * eps / STEPS * gradient.sign())
        found.append(reach.of(everywhere))
    return torch.cat(found)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*", type=Path, default=[CHECKPOINTS / "digits-ode.safetensors"])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=360)
    parser.add_argument("--eps", type=parse_budget, nargs="+", default=[0.03, 0.06])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = rb.load_dataset(options.dataset, images=options.images)
    print(
        "| checkpoint | eps | images | left, and of them fallen, for a reach above: "
        + " | ".join(f"{factor:g}" for factor in FACTORS)
        + " | largest reach of a fallen one | CPU seconds |"
    )
    print("|---|---|---|" + "---|" * (len(FACTORS) + 2), flush=True)
    total = torch.zeros(len(FACTORS), 2, dtype=torch.int64)
    for checkpoint in options.checkpoints:
        model = rb.load_checkpoint(checkpoint)
        for eps in options.eps:
            started = time.process_time()
            reach = reach_of(model, data, eps, options.draws)
            if not (reach > FACTORS[0]).any():
                print(f"| {model.name} | {eps:.4g} | {len(data)} |" + " 0, 0 |" * len(FACTORS) + " | |")
                continue
            left = data.select(data.ids[reach > FACTORS[0]])
            attack = make_attack(
                "auto", norm="linf", eps=eps, steps=options.steps, eot_draws=options.draws, settle=False,
                queries_per_step=max(1, options.queries // options.steps),
            )  # fmt: skip
            made = attack(model, to_float(left.images), left.labels, left.ids)
            records = rb.score(model, left, made.images, score_draws=128 if model.stochastic else 1).records
            fell = ~torch.tensor(records["correct"].to_numpy())
            far = reach[reach > FACTORS[0]]
            counts = torch.tensor([[int((far > f).sum()), int(((far > f) & fell).sum())] for f in FACTORS])
            total += counts
            worst = f"{float(far[fell].max()):.2f}" if fell.any() else f"below {FACTORS[0]}"
            cells = " | ".join(f"{a}, {b}" for a, b in counts.tolist())
            print(f"| {model.name} | {eps:.4g} | {len(data)} | {cells} | {worst} | "
                  f"{time.process_time() - started:.0f} |", flush=True)  # fmt: skip
    for factor, (count, fallen) in zip(FACTORS, total.tolist(), strict=True):
        high = clopper_pearson_high(fallen, count, 0.05) if count else 1.0
        print(f"above {factor:g}: {fallen} of {count} fell (at most {high:.2%}, one-sided 95 %)")


if __name__ == "__main__":
    main()
