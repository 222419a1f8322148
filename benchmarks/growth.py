"""How cost grows: with images, draws and steps; what the harness adds; whether memory stays flat.

    python -m benchmarks.growth [--checkpoint digits-multiplicative] [--dataset digits] [--images 64]
                                [--cell-images 64] [--repeats 3] [--cells 75] [--threads 1]

1. CPU time of pgd with one setting doubled at a time: linear growth doubles it.
2. Of a whole run (control, pgd, scoring, records, verification, tables) the share that is neither the attack
   nor a forward pass of scoring.
3. Resident memory after every tenth of many corruption cells.
4. CPU time of `auto` at budgets from one that nearly all images withstand to one that fools nearly all.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS
from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.evaluation import scoring
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.pgd import PGD
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.corruptions import make_corruptions
from robustbench_sde.runs.cells import Cell, attack_cells
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder

BASE = {"images": 16, "draws": 4, "steps": 5}


def attack_seconds(model: RandomClassifier, data: ImageDataset, repeats: int, **setting: int) -> float:
    """Median CPU seconds of a pgd whose images all take all steps."""
    part = data.subset(setting["images"])
    attack = make_attack("pgd", eps=0.03, steps=setting["steps"], eot_draws=setting["draws"], settle=False)
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        attack(model, to_float(part.images), part.labels, part.ids)
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def growth(model: RandomClassifier, data: ImageDataset, repeats: int) -> Iterator[str]:
    """Rows of the first table."""
    attack_seconds(model, data, 1, **BASE)  # warm
    for name in BASE:
        times = [
            attack_seconds(model, data, repeats, **BASE | {name: BASE[name] * factor}) for factor in (1, 2, 4)
        ]
        ratios = " | ".join(f"{after / before:.2f}" for before, after in itertools.pairwise(times))
        yield f"| {name} | {BASE[name]} | {times[0]:.2f} s | {ratios} |"


@contextmanager
def timed(owner: Any, name: str, total: list[float]) -> Iterator[None]:
    """Adds the CPU time of every call of a function to `total[0]`."""
    inner: Callable[..., Any] = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return inner(*arguments, **options)
        finally:
            total[0] += time.process_time() - started

    with mock.patch.object(owner, name, call):
        yield


def overhead(checkpoint: Path, data: ImageDataset) -> tuple[float, float]:
    """CPU seconds of a run, and those of its attacks and forward passes."""
    source = Source.of(checkpoint, data)
    cells = attack_cells(source, [make_attack("pgd", eps=0.03)], ScoreSettings())
    inside = [0.0]
    with (
        tempfile.TemporaryDirectory() as folder,
        timed(PGD, "run_in", inside),
        timed(scoring, "log_probabilities", inside),
    ):
        started = time.process_time()
        run_cells(Work.of(cells, data), RunFolder(Path(folder) / "run"))
        return time.process_time() - started, inside[0]


def resident() -> float:
    """MiB of this process in memory; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory(checkpoint: Path, data: ImageDataset, count: int) -> list[float]:
    """Memory after every tenth of so many corruption cells, in one process."""
    source = Source.of(checkpoint, data)
    perturbations = make_corruptions("benchmark", [1, 2, 3, 4, 5])[:count]
    cells = [Cell(source, each, ScoreSettings(2)) for each in (Clean(), *perturbations)]
    levels = []
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        for end in range(1, len(cells) + 1, max(1, len(cells) // 10)):
            run_cells(Work.of(cells[:end], data), run)
            levels.append(resident())
    return levels


def standing(model: RandomClassifier, data: ImageDataset) -> Iterator[str]:
    """Rows of the last table: budget, share of images that stand, CPU milliseconds an image."""
    for eps in (0.002, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06):
        attack = make_attack("auto", eps=eps, steps=20, eot_draws=4, queries_per_step=3, norm="linf")
        started = time.process_time()
        made = attack(model, to_float(data.images), data.labels, data.ids)
        taken = 1000 * (time.process_time() - started) / len(data)
        right = rb.score(model, data, made.images).records["correct"].mean()
        yield f"| {eps:g} | {100 * right:.0f} % | {taken:.0f} ms |"


def main(arguments: list[str] | None = None) -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="digits-multiplicative")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=64, help="of the run")
    parser.add_argument("--cell-images", type=int, help="of the corruption cells; default: as many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cells", type=int, default=75)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    path = CHECKPOINTS / f"{options.checkpoint}.safetensors"
    count = options.cell_images or options.images
    model, data = (
        rb.load_checkpoint(path),
        rb.load_dataset(options.dataset, images=max(64, options.images, count)),
    )
    print("| doubled | from | time | 2 x | 4 x |\n|---|---|---|---|---|", flush=True)
    for row in growth(model, data, options.repeats):
        print(row, flush=True)
    print("\n| eps | images that stand | CPU time an image |\n|---|---|---|", flush=True)
    for row in standing(model, data.subset(64)):
        print(row, flush=True)
    whole, inside = overhead(path, data.subset(options.images))
    print(f"\nharness: {whole - inside:.2f} of {whole:.2f} s, {1 - inside / whole:.1%}", flush=True)
    levels = memory(path, data.subset(count), options.cells)
    shown = " ".join(f"{level:.0f}" for level in levels)
    print(f"memory over {options.cells} corruption cells of {count} images, MiB: {shown}")


if __name__ == "__main__":
    main()
