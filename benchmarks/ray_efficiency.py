"""How much faster two workers of Ray are than one process, and what a shard costs beside its work.

    OMP_NUM_THREADS=1 python benchmarks/ray_efficiency.py [--images 320] [--steps 20] [--workers 2]

The same cells in this process on one core (Linux), in this process as it comes, and by the Ray engine with
workers of one thread each. As it comes, a process with one thread uses two cores: a second thread makes
noise ahead. Tables must be equal to the last bit; the ratios of the wall times are the speed-up, with and
without the start of Ray and the imports of its workers. Takes about five minutes on an idle machine with
two cores; on a busy one the ratio means nothing.
"""

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

import pandas as pd
import ray
import torch

from robustbench_sde.data import ImageDataset, load_dataset
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.cells import Cell, attack_cells
from robustbench_sde.runs.cluster.ray import RayEngine
from robustbench_sde.runs.engine import Engine, LocalEngine
from robustbench_sde.runs.run import Run, run_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder


def on_one_core(cells: list[Cell], data: ImageDataset, folder: Path) -> float:
    """Wall time of the local engine when all its threads share a core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        return timed(LocalEngine(), cells, data, folder)[1]
    finally:
        os.sched_setaffinity(0, allowed)


def timed(engine: Engine, cells: list[Cell], data: ImageDataset, folder: Path) -> tuple[Run, float]:
    """The run and its wall time."""
    started = time.perf_counter()
    run = run_cells(Work.of(cells, data), RunFolder(folder), engine=engine)
    return run, time.perf_counter() - started


def overhead(source: Source, data: ImageDataset, folder: Path, workers: int) -> float:
    """Seconds of a worker that a shard takes beside its work, from shards that have hardly any."""
    cells = [Cell(source, Clean(), ScoreSettings(1, seed=seed, rows=8)) for seed in range(20)]
    run, seconds = timed(RayEngine(shard_images=8), cells, data, folder)
    work = run.summary["seconds"].sum()
    shards = run.folder.read_manifest()["shards"]
    return (workers * seconds - work) / shards


def main() -> None:
    """Measure, check and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset("digits", split="test").subset(options.images)
    source = Source.of(Path("checkpoints/digits-multiplicative.safetensors"), data)
    attacks = [make_attack("pgd", eps=eps, steps=options.steps, settle=False) for eps in (0.02, 0.04, 0.06)]
    cells = attack_cells(source, attacks, ScoreSettings())
    with tempfile.TemporaryDirectory() as name:
        local, alone = timed(LocalEngine(), cells, data, Path(name) / "local")
        pinned = on_one_core(cells, data, Path(name) / "pinned")
        started = time.perf_counter()
        settings = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        ray.init("local", num_cpus=options.workers, **settings)
        cold, first = timed(RayEngine(shard_images=32), cells, data, Path(name) / "cold")
        first = time.perf_counter() - started
        _, second = timed(RayEngine(shard_images=32), cells, data, Path(name) / "warm")
        mine, theirs = (run.summary.drop(columns="seconds") for run in (local, cold))
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
        shard = overhead(source, data, Path(name) / "overhead", options.workers)
    print(f"one process on one core: {pinned:.1f} s; as it comes, with a thread for noise: {alone:.1f} s")
    print(f"{options.workers} workers: {second:.1f} s, {first:.1f} s with their start")
    print(f"speed-up over one core: {pinned / second:.2f}, {pinned / first:.2f} with their start")
    print(f"speed-up over one process: {alone / second:.2f}, {alone / first:.2f} with their start")
    print(f"a shard takes {1000 * shard:.0f} ms beside its work; a worker starts in {first - second:.1f} s")


if __name__ == "__main__":
    main()
