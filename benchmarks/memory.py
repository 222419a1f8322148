"""Peak memory of a gradient: against the number of steps, and of 256 draws under a limit of 2 GB.

Every figure is the growth of the peak of a process of its own. `alive` has every block mapped by itself, so
that the peak is what is needed at once; the others have the holes as well that glibc leaves between blocks.
Linux.

Run: python benchmarks/memory.py
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import torch

from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.memory import bytes_per_row, rows_that_fit
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.sde.draws import Draws, Stream

LIMIT = 2 * 10**9


def network(preset: str, **changes: object) -> Classifier:
    """Untrained and frozen, for CIFAR-10, with multiplicative noise."""
    spec = {
        "channels": 3,
        "height": 32,
        "width": 32,
        "classes": 10,
        "noise": (NoiseSpec(kind="multiplicative", sigma=0.5),),
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
    }
    whole = ModelSpec.model_validate({**spec, **PRESETS[preset], **changes})
    return Classifier.initialised(whole, 0).requires_grad_(False).eval()


def peak() -> int:
    """Bytes; of this program alone, while ru_maxrss begins with that of whoever started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def gradient(model: Classifier, rows: int) -> None:
    """Take the gradient of so many images with one draw each."""
    images = torch.rand(rows, 3, 32, 32, requires_grad=True)
    logits = model.logits(images, range(rows), Draws(0, Stream.ATTACK))
    torch.autograd.grad(logits.sum(), images)


def by_steps(steps: int, recompute: bool) -> str:
    """MiB that a gradient of 64 rows takes."""
    model = network("cifar", steps=steps).with_recomputation(recompute)
    gradient(model, 1)
    before = peak()
    gradient(model, 64)
    return f"{(peak() - before) / 2**20:.0f}"


def many_draws(preset: str, draws: int) -> str:
    """The peak of the process in MB, and the rows of a pass that it chose."""
    model = network(preset)
    rows = rows_that_fit(model, LIMIT) or 0
    forecast = bytes_per_row(model) / 2**20
    images = torch.rand(1, 3, 32, 32)
    batch = Batch(images, torch.zeros(1, dtype=torch.int64), torch.arange(1))
    Victim(model, batch, seed=0, eot_draws=draws, restart=0, rows=min(rows, 256)).gradient(images, 0)
    return f"{peak() / 1e6:.0f} MB, {min(rows, 256)} rows a pass ({forecast:.1f} MiB each)"


def in_a_process(what: str, *arguments: object, **environment: str) -> str:
    """Return what this script prints when it is given `what` to do."""
    command = [sys.executable, __file__, what, *map(str, arguments)]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return finished.stdout.strip()


def main() -> None:
    """Print the tables, or one figure of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*")
    what = parser.parse_args().what
    torch.set_num_threads(1)
    if what[:1] == ["steps"]:
        print(by_steps(int(what[1]), what[2] == "True"))
        return
    if what[:1] == ["draws"]:
        print(many_draws(what[1], int(what[2])))
        return
    print("MiB of a gradient of 64 rows, cifar preset")
    print("  steps   plain   recomputed   recomputed, alive", flush=True)
    for steps in (8, 32, 128):
        plain, again = (in_a_process("steps", steps, recompute) for recompute in (False, True))
        alive = in_a_process("steps", steps, True, MALLOC_MMAP_THRESHOLD_="65536")
        print(f"  {steps:5} {plain:>7} {again:>12} {alive:>19}", flush=True)
    print("\npeak of a process that takes a gradient over 256 draws of an image within 2 GB")
    for preset in ("cifar", "liu2020"):
        print(f"  {preset:<8} {in_a_process('draws', preset, 256)}", flush=True)


if __name__ == "__main__":
    main()
