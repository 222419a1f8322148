"""What scoring costs, and what `--score-draws auto` saves.

    python -m benchmarks.scoring [CHECKPOINT ...] [--dataset digits] [--images 200] [--eps 0.03] [--repeats 7]
                                 [--threads 1]

First table: images x draws a second of wall time, as scoring folds them, against a straightforward loop: for
every draw a forward pass of all images (64 of them). The ratio of CPU times beside it counts as well what the
thread that makes noise does on another core, where there is one. Memory is kept as the program keeps it;
medians of interleaved runs. Second table: `auto` against all 256 draws, on clean images, and on images of pgd
and of fmn; the latter lie on a boundary on purpose. Its time is CPU time.
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
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.sde.heap import keep_freed_memory
from robustbench_sde.texts import parse_budget

#: Images of the first table, draws of each, and rows in a pass of scoring.
IMAGES, DRAWS, BATCH = 64, 32, 256


def loop(model: RandomClassifier, data: ImageDataset) -> None:
    """A forward pass of all images for every draw."""
    images = to_float(data.images)
    with torch.no_grad():
        for draw in range(DRAWS):
            draws = Draws(0, Stream.SCORE, range(draw, draw + 1))
            model.logits(images, data.ids, draws).softmax(-1)


def interleaved(variants: Sequence[Callable[[], object]], repeats: int) -> list[tuple[float, float]]:
    """Median seconds of each, (wall, CPU); a first round warms up."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in variants]
    for _ in range(repeats + 1):
        for variant, own in zip(variants, seconds, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            variant()
            own.append((time.perf_counter() - wall, time.process_time() - cpu))
    medians = [tuple(map(statistics.median, zip(*own[1:], strict=True))) for own in seconds]
    return [(wall, cpu) for wall, cpu in medians]


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
    rates = f"{count / ours[0]:.0f} | {count / plain[0]:.0f}"
    return f"| {model.name} | {rates} | {plain[0] / ours[0]:.2f} | {plain[1] / ours[1]:.2f} |"


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
    shipped = sorted(CHECKPOINTS.glob("digits-*"))
    noisy = [path for path in shipped if path.stem not in ("digits-ode", "digits-smoothed")]
    parser.add_argument("checkpoints", nargs="*", type=Path, default=noisy)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=parse_budget, default=0.03)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    data = rb.load_dataset(options.dataset, images=options.images)
    models = [rb.load_checkpoint(path) for path in options.checkpoints]
    print(f"{data.name}, {len(data)} images, {DRAWS} draws, {options.threads} thread(s)\n")
    print("| checkpoint | images x draws a second | of a plain loop | ratio | of CPU times |")
    print("|---|---|---|---|---|", flush=True)
    for model in models:
        print(throughput(model, data.subset(min(IMAGES, len(data))), options.repeats), flush=True)
    print(
        f"\n| checkpoint | images | decided as by {MOST} | mean draws | time |\n|---|---|---|---|---|",
        flush=True,
    )
    for model in models:
        print("\n".join(savings(model, data, options.eps)), flush=True)


if __name__ == "__main__":
    main()
