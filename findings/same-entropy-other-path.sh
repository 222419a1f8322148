#!/usr/bin/env bash
# torchsde 0.2.6: `BrownianInterval(entropy=7)` is another Brownian path for every step size. The sum over the whole
# interval is the same to the last bit, which makes it look like one path; all values in between belong to the order
# in which they were asked for. So solutions with steps h and h / 2 do not approach each other: their distance stays
# at a constant share of the spread. With `halfway_tree=True` (which wants a `tol`, and no `dt`) it is one path, and
# the distance halves with the step, as it should for additive noise.
#
# Why it matters: "the same images, the same entropy, half the step" is how one asks whether a Neural SDE is solved
# finely enough. The decisions that differ are then those of other noise, and no step is ever small enough.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU, Linux.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 torchsde==0.2.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torchsde

PATHS, RATE = 2000, 3.0


class Reverting(torch.nn.Module):
    """dy = -3 y dt + dW; the Euler-Maruyama scheme has strong order 1 for it."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return -RATE * y

    def g(self, t, y):
        return torch.ones_like(y)


def solve(steps, **tree):
    path = torchsde.BrownianInterval(0.0, 1.0, size=(PATHS, 1), entropy=7, **tree)
    times = torch.tensor([0.0, 1.0])
    end = torchsde.sdeint(Reverting(), torch.zeros(PATHS, 1), times, bm=path, dt=1 / steps, method="euler")[-1]
    return end, path(0.0, 1.0)


counts = (4, 8, 16, 32, 64, 128)
distances = {}
for name, tree in (("default", {}), ("halfway_tree", {"halfway_tree": True, "tol": 1e-4})):
    ends, sums = zip(*(solve(count, **tree) for count in counts))
    assert all(torch.equal(sums[0], other) for other in sums)
    distances[name] = [(b - a).square().mean().sqrt().item() for a, b in zip(ends, ends[1:])]
    spread = ends[-1].std().item()
    print(f"{name}: W(0, 1) is the same for all numbers of steps; standard deviation of a solution {spread:.3f}")
    print(" distance to half as many steps,", *(f"{n}: {d:.3f}" for n, d in zip(counts[1:], distances[name])))

default, halved = distances["default"], distances["halfway_tree"]
assert default[-1] > 0.4 * spread and default[-1] > 0.95 * default[-2]
assert all(0.3 < b / a < 0.6 for a, b in zip(halved, halved[1:])) and halved[-1] < 0.02 * spread
PYTHON
# Output seen on 2026-11-28:
# default: W(0, 1) is the same for all numbers of steps; standard deviation of a solution 0.407
#  distance to half as many steps, 8: 0.303 16: 0.231 32: 0.201 64: 0.184 128: 0.179
# halfway_tree: W(0, 1) is the same for all numbers of steps; standard deviation of a solution 0.410
#  distance to half as many steps, 8: 0.146 16: 0.056 32: 0.026 64: 0.012 128: 0.006
