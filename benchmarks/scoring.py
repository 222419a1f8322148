"""What scoring costs, and what `--score-draws auto` saves.

    python -m benchmarks.scoring [CHECKPOINT ...] [--dataset digits] [--images 200] [--eps 0.03] [--repeats 7]
                                 [--threads 1]

First table: images x draws a second, as scoring folds them, against a straightforward loop of forward passes:
for every draw all images in batches of 256. Medians of interleaved runs. Second table: `auto` against all 256
draws, on clean images, and on images of pgd and of fmn; the latter lie on a boundary on purpose.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.evaluation.sequential import MOST
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks import make_attack
from robustbench_sde.sde.draws import Draws, Stream

DRAWS, BATCH = 32, 256


def loop(model: RandomClassifier, data: ImageDataset) -> None:
    """A forward pass of every batch for every draw."""
    images = to_float(data.images)
    with torch.no_grad():
        for draw in range(DRAWS):
            for start in range(0, len(data), BATCH):
                piece = slice(start, start + BATCH)
                draws = Draws(0, Stream.SCORE, range(draw, draw + 1))
                model.logits(images[piece], data.ids[piece], draws).softmax(-1)


def interleaved(variants: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU seconds of each."""
    seconds: list[list[float]] = [[] for _ in variants]
    for _ in range(repeats):
        for variant, own in zip(variants, seconds, strict=True):
            started = time.process_time()
            variant()
            own.append(time.process_time() - started)
    return [statistics.median(own) for own in seconds]


def throughput(model: RandomClassifier, data: ImageDataset, repeats: int) -> str:
    """A row of the first table."""
    settings = ScoreSettings(DRAWS, rows=BATCH)
    ours, plain = interleaved(
        (
            lambda: score_records(model, data, to_float(data.images), settings),
            lambda: loop(model, data),
        ),
        repeats,
    )
    count = len(data) * DRAWS
    return f"| {model.name} | {count / ours:.0f} | {count / plain:.0f} | {plain / ours:.2f} |"


def savings(model: RandomClassifier, data: ImageDataset, eps: float) -> list[str]:
    """Rows of the second table."""
    rows = []
    for name, parameters in {
        "clean": None,
        "pgd": {"eps": eps},
        "fmn": {"norm": "linf", "steps": 50},
    }.items():
        images = to_float(data.images)
        if parameters is not None:
            images = make_attack(name, **parameters)(model, images, data.labels, data.ids).images
        taken, found = [], []
        for draws in ("auto", MOST):
            started = time.process_time()
            found.append(score_records(model, data, images, ScoreSettings(draws, rows=BATCH)))  # type: ignore[arg-type]
            taken.append(time.process_time() - started)
        auto, full = found
        same = (auto["prediction"] == full["prediction"]).mean()
        mean, time_ratio = auto["score_draws"].mean(), taken[0] / taken[1]
        rows.append(
            f"| {model.name} | {name} | {same:.1%} | {mean:.0f} ({mean / MOST:.0%}) | {time_ratio:.2f} |"
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    noisy = [path for path in sorted(CHECKPOINTS.glob("digits-*")) if "ode" not in path.name]
    parser.add_argument("checkpoints", nargs="*", type=Path, default=noisy)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=float, default=0.03)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = rb.load_dataset(options.dataset, images=options.images)
    models = [rb.load_checkpoint(path) for path in options.checkpoints]
    print(f"{data.name}, {len(data)} images, {DRAWS} draws, {options.threads} thread(s)\n")
    print("| checkpoint | images x draws a second | of a plain loop | ratio |\n|---|---|---|---|", flush=True)
    for model in models:
        print(throughput(model, data.subset(min(32, len(data))), options.repeats), flush=True)
    print(
        f"\n| checkpoint | images | decided as by {MOST} | mean draws | time |\n|---|---|---|---|---|",
        flush=True,
    )
    for model in models:
        print("\n".join(savings(model, data, options.eps)), flush=True)


if __name__ == "__main__":
    main()
