#!/usr/bin/env bash
# torchsde 0.2.6: BrownianInterval(entropy=...) gives the noise to the row of the batch: the same image gets
# other noise in another row, or alone. Without entropy, paths repeat after numpy.random.seed() and not after
# torch.manual_seed().
#
# Why it matters: A network frozen in this way is deterministic, passes the usual test of repeatability, and
# yet answers differently when the batch is put in another order.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 scipy==1.17.1 torchsde==0.2.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import torch
import torchsde


class Walk(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, h):
        return -0.5 * h

    def g(self, t, h):
        return torch.full_like(h, 0.8)


times = torch.tensor([0.0, 1.0])


def solve(state, entropy=None):
    path = None if entropy is None else torchsde.BrownianInterval(0.0, 1.0, size=state.shape, entropy=entropy)
    return torchsde.sdeint(Walk(), state, times, bm=path, method="euler", dt=0.05)[-1]


images = torch.ones(6, 32)
together, again = solve(images, 11), solve(images, 11)
alone = torch.cat([solve(image[None], 11) for image in images])
print("equal when solved twice:", torch.equal(together, again))
print("six equal images in a batch differ by up to", round(float((together - together[:1]).abs().max()), 2))
print("an image alone against itself in the batch: row 0", round(float((together[0] - alone[0]).abs().max()), 6), "row 5", round(float((together[5] - alone[5]).abs().max()), 2))
assert torch.equal(together, again)
assert torch.allclose(together[0], alone[0], atol=1e-5) and float((together[5] - alone[5]).abs().max()) > 0.5


def default(seed_all):
    seed_all(5)
    return solve(images)


by_torch = torch.equal(default(torch.manual_seed), default(torch.manual_seed))
by_numpy = torch.equal(default(np.random.seed), default(np.random.seed))
print("without entropy the path repeats after torch.manual_seed:", by_torch, "| after numpy.random.seed:", by_numpy)
assert not by_torch and by_numpy
PYTHON
# Output seen on 2026-11-27:
# equal when solved twice: True
# six equal images in a batch differ by up to 2.45
# an image alone against itself in the batch: row 0 0.0 row 5 1.79
# without entropy the path repeats after torch.manual_seed: False | after numpy.random.seed: True
