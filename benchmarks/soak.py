"""Does one process that works for hours keep its memory, its files and its threads?

    python -m benchmarks.soak [--minutes 120] [--share 0.15] [--json soak.json]

Attacks, corruptions, certificates, scores, audits, comparisons, pages and trainings are repeated through the
Python API in one process, on a tiny network of the embedded digits, with other seeds each time, so that
nothing is served from a store. Every minute a line is printed: rounds, resident memory, memory in use, open
files, threads, objects of Python, and files left. The process sleeps between the steps so that it takes
`--share` of a core. Linux with glibc.
"""

import argparse
import ctypes
import gc
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import save_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.storage.run_folder import RunFolder

#: rounds before the first line counts: imports, caches and the heap have their size then
WARM = 3


def tiny(place: Path, kind: str) -> Path:
    """Write an untrained network for the embedded digits."""
    spec = ModelSpec.model_validate(
        {
            "preset": f"tiny-{kind}",
            "channels": 1,
            "height": 32,
            "width": 32,
            "classes": 10,
            "features": 8,
            "stem_strides": (4, 2),
            "norm_groups": 2,
            "steps": 3,
            "noise": NoiseSpec(kind=kind, sigma=0.8),
            "mean": (0.5,),
            "std": (0.25,),
        }
    )
    dataset = DatasetRef(name="digits", fingerprint="", class_names=tuple("0123456789"))
    path = place / f"{kind}.safetensors"
    save_checkpoint(path, Classifier.initialised(spec, seed=1), CheckpointHeader(model=spec, dataset=dataset))
    return path


def steps(place: Path, data: ImageDataset, seed: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Name each piece of work of one round, with the function that does it."""
    noisy, plain = tiny(place, "additive"), tiny(place, "none")
    few, draws = data.subset(8), {"score_draws": 4, "seed": seed}
    run, small = place / "run", {"steps": 2, "eot_draws": 2}
    shutil.rmtree(run, ignore_errors=True)
    both = [noisy, plain]
    yield "attack", lambda: rb.attack(noisy, few, "pgd", eps=0.1, **draws, **small)
    yield "attack out", lambda: rb.attack(both, few, eps=[0.02, 0.1], out=run, **draws, **small)
    yield "page", lambda: write_report(RunFolder(run), RunFolder(place / "page"))
    yield "compare", lambda: rb.compare(run, run)
    yield "show", lambda: rb.load_checkpoint(noisy)
    yield "corrupt", lambda: rb.corrupt(few, "fog", 1 + seed % 5, seed=seed)
    changed = rb.corrupt(few, "brightness", 2, seed=seed)
    yield "score", lambda: rb.score(noisy, few, changed, **draws)
    yield "score corruptions", lambda: rb.score(noisy, few, corruptions="fog,jpeg_compression", **draws)
    yield "certify", lambda: rb.certify(noisy, few, draws=200, select_draws=10, seed=seed)
    yield "audit", lambda: rb.audit(noisy, data.subset(10), eps=0.1, **draws, **small)
    yield "stability", lambda: rb.stability(noisy, data.subset(2), paths=2, **draws, **small)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 10), torch.nn.Dropout(0.5)).eval()
    yield "module", lambda: rb.attack(module, few, eps=0.1, **draws, **small)
    yield (
        "train",
        lambda: rb.train(
            few,
            place / "new" / "m.safetensors",
            test=few,
            steps=1,
            epochs=1,
            batch_size=8,
            force=True,
            seed=seed,
        ),
    )
    yield "a fault", lambda: fault(few)


def fault(few: ImageDataset) -> None:
    """Fail in the middle of somebody's network, as half of all first calls do."""

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    try:
        rb.attack(Broken(), few, eps=0.1, steps=2, score_draws=2)
    except BenchError:
        return
    raise AssertionError("a broken network was not refused")


def count_objects() -> int:
    """Count what the collector of Python knows, without the garbage."""
    gc.collect()
    return len(gc.get_objects())


def now(place: Path) -> dict[str, int]:
    """Measure this process: KiB of memory, open files, threads, objects and temporary files.

    `in_use_kib` is the anonymous memory after the C library has given back what it keeps for later calls.
    """
    objects = count_objects()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "in_use_kib": int(status["RssAnon"].split()[0]),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(status["Threads"]),
        "python_threads": threading.active_count(),
        "objects": objects,
        "left_files": sum(1 for path in place.rglob("*") if path.is_file()),
        "temporary": len(list(Path(tempfile.gettempdir()).glob(f"*{os.getpid()}*"))),
    }


def growth(lines: list[dict[str, float]], key: str) -> float:
    """Return the slope per hour of a column, by least squares."""
    hours = np.array([line["minutes"] / 60 for line in lines])
    return float(np.polyfit(hours, [line[key] for line in lines], 1)[0]) if len(lines) > 1 else 0.0


def main() -> None:
    """Work until the time is over; print a line each minute, and the growth at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--share", type=float, default=0.15, help="share of a core")
    parser.add_argument("--json", type=Path, help="file for all lines, written anew each minute")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = rb.load_dataset("digits", split="test")
    began, next_line, rounds, done, lines = time.monotonic(), 0.0, 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        while time.monotonic() - began < options.minutes * 60:
            for name, work in steps(place, data, seed=rounds):
                cpu = time.process_time()
                work()
                done += 1
                time.sleep((time.process_time() - cpu) * (1 / options.share - 1))
                minutes = (time.monotonic() - began) / 60
                if rounds >= WARM and minutes >= next_line:
                    next_line = minutes + 1
                    lines.append({"minutes": round(minutes, 2), "rounds": rounds, "calls": done} | now(place))
                    print(json.dumps(lines[-1] | {"after": name}), flush=True)
                    if options.json:
                        options.json.write_text(json.dumps(lines))
            rounds += 1
    late = [line for line in lines if line["minutes"] >= options.minutes / 4]
    for key in ("rss_kib", "in_use_kib", "files", "threads", "objects"):
        print(f"{key}: {lines[0][key]} -> {lines[-1][key]}, {growth(late, key):+.1f} an hour after a quarter")


if __name__ == "__main__":
    main()
