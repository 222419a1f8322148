"""Where the time of an attack's gradient goes: operations of torch, forwards and backwards.

    python -m benchmarks.profile_gradient [--rounds 5] [--rows 16]

The gradient of benchmarks/gradient.py. Shares are of the main thread's own time in each operation, as
torch.profiler counts it. It does not see the thread that makes noise.
"""

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gradient import Variants, network
from robustbench_sde.sde.heap import keep_freed_memory


def shares(rounds: int) -> dict[str, float]:
    """Own time of each operation over the sum of all, the largest first."""
    variants = Variants(network())
    victim = variants.ours()
    victim.gradient(variants.images, 0)  # warm
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for step in range(rounds):
            victim.gradient(variants.images, step)
    own = {event.key: event.self_cpu_time_total for event in measured.key_averages()}
    whole = sum(own.values())
    return {name: own[name] / whole for name in sorted(own, key=lambda name: -own[name])}


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16, help="operations in the table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    print("| operation | share |\n|---|---|")
    for name, share in list(shares(options.rounds).items())[: options.rows]:
        print(f"| {name} | {share:.1%} |")


if __name__ == "__main__":
    main()
