"""What each saving of `auto` buys: CPU seconds and accuracy with one of them switched off, in one run.

    python -m benchmarks.savings [CHECKPOINT] [--dataset digits] [--images 64] [--eps 0.03]
                                [--passes 112] [--threads 1]

The attack is the `auto` of `benchmarks/time_to_answer.py` with the larger of its budgets. Variants run one
after the other, twice; the smaller CPU time counts. All images are scored on the same 128 draws.
"""

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import robustbench_sde as rb
from benchmarks.peers import CHECKPOINTS
from robustbench_sde.data import to_float
from robustbench_sde.perturbations.attacks import auto, judged, opening, pgd
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.sde import draws
from robustbench_sde.texts import parse_budget

#: what is switched off: (owner, name, value in its place)
VARIANTS: dict[str, list[tuple[Any, str, Any]]] = {
    "all savings": [],
    "no pairs of draws": [(draws, "_PAIRED", frozenset())],
    "no opening without noise": [(auto.Auto, "opening", lambda *_: None)],
    "no image left standing": [(pgd, "STANDS", math.inf), (opening, "STANDS", math.inf)],
    "all select draws for every look": [(judged, "_FIRST", 32)],
}


def patched(changes: list[tuple[Any, str, Any]]) -> ExitStack:
    """Switch something off until the result is closed."""
    stack = ExitStack()
    for owner, name, value in changes:
        stack.enter_context(mock.patch.object(owner, name, value))
    return stack


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Rows of the table."""
    data = rb.load_dataset(options.dataset, images=options.images)
    model, images = rb.load_checkpoint(options.checkpoint), to_float(data.images)
    attack = make_attack(
        "auto", norm="linf", eps=options.eps, steps=20, depth=3, eot_draws="auto", queries_per_step=1,
        passes=options.passes,
    )  # fmt: skip
    seconds: dict[str, float] = {}
    accuracy: dict[str, float] = {}
    passes: dict[str, tuple[float, float]] = {}
    for _ in range(2):
        for name, changes in VARIANTS.items():
            with patched(changes):
                started = time.process_time()
                made = attack(model, images, data.labels, data.ids, rows=512)
                taken = time.process_time() - started
            seconds[name] = min(taken, seconds.get(name, math.inf))
            counts = made.forward_passes, made.backward_passes
            passes[name] = tuple(float(each.double().mean()) for each in counts)  # type: ignore[assignment]
            records = rb.score(model, data, made.images, score_draws=128).records
            accuracy[name] = 100 * float(records["correct"].mean())
    whole = seconds["all savings"]
    for name, taken in seconds.items():
        forward, backward = passes[name]
        yield (
            f"| {model.name} | {options.eps:.4g} | {name} | {taken:.1f} | {taken / whole:.2f} "
            f"| {forward:.0f}, {backward:.0f} | {accuracy[name]:.1f} |"
        )


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = CHECKPOINTS / "digits-multiplicative.safetensors"
    parser.add_argument("checkpoint", nargs="?", type=Path, default=default)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--eps", type=parse_budget, default=0.03)
    parser.add_argument("--passes", type=int, default=112)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print("| checkpoint | eps | variant | CPU seconds | times | forward, backward passes | accuracy left |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in rows(options):
        print(row, flush=True)


if __name__ == "__main__":
    main()
