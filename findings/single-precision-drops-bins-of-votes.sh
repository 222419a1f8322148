#!/usr/bin/env bash
# netcal 1.4.0 with numpy 2.4.6 and scipy 1.17.1: the expected calibration error of vote shares depends on their type
# of float. `netcal.metrics.ECE` counts the images of a bin by `numpy.histogramdd` and takes their mean confidence and
# accuracy by `scipy.stats.binned_statistic_dd`, with the same edges. A share of votes such as 6 of 10 lies exactly on
# an edge, and in single precision the two functions put it on different sides. A bin that one of them fills and the
# other leaves empty counts as a bin without error, so that all of its images drop out.
#
# Why it matters: shares of votes are how a random classifier says how sure it is, and torch computes them in float32.
# The calibration error comes out 30 % too low here, without a warning. torchmetrics 1.9.0 gives the right number
# for both types.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU, Linux.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 scipy==1.17.1 netcal==1.4.0 \
    torchmetrics==1.9.0
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
from fractions import Fraction

import numpy as np
import torch
from netcal.metrics import ECE
from scipy.stats import binned_statistic_dd
from torchmetrics.functional.classification import multiclass_calibration_error

IMAGES, DRAWS, BINS = 2000, 10, 20
random = np.random.default_rng(0)
probabilities = random.dirichlet([1, 1, 1], size=IMAGES)
votes = np.array([random.multinomial(DRAWS, row) for row in probabilities])
labels = np.array([random.choice(3, p=row) for row in probabilities])

# every share has a bin to itself: neighbours are 0.1 apart and bins 0.05 wide, so that no edge matters
most, right = votes.max(1), votes.argmax(1) == labels
gaps = [sum(Fraction(int(share), DRAWS) - int(hit) for hit in right[most == share]) for share in range(DRAWS + 1)]
exact = float(sum(map(abs, gaps)) / IMAGES)
print(f"{IMAGES} images, {DRAWS} votes each, {BINS} bins: exact {exact:.4f}")

found = {}
for kind in (np.float64, np.float32):
    shares = (votes / DRAWS).astype(kind)
    found["netcal", kind] = float(ECE(bins=BINS).measure(shares, labels))
    found["torchmetrics", kind] = float(
        multiclass_calibration_error(
            torch.from_numpy(shares), torch.from_numpy(labels), num_classes=3, n_bins=BINS
        )
    )
for (name, kind), value in found.items():
    print(f"{name:12} {kind.__name__} {value:.4f}")

edges = [np.linspace(0, 1, BINS + 1)]
shares = (np.arange(DRAWS + 1) / DRAWS).astype(np.float32)[:, None]
counted, _ = np.histogramdd(shares, bins=edges)
binned = binned_statistic_dd(shares, shares[:, 0], statistic="count", bins=edges).statistic
print("bins with a share of 0 to 10 of 10 votes in float32")
print("histogramdd        ", *np.flatnonzero(counted))
print("binned_statistic_dd", *np.flatnonzero(binned))

assert abs(found["netcal", np.float64] - exact) < 1e-3
assert found["netcal", np.float32] < 0.75 * exact
assert all(abs(found["torchmetrics", kind] - exact) < 1e-3 for kind in (np.float64, np.float32))
assert (counted != binned).any()
PYTHON
# Output seen on 2026-11-28:
# 2000 images, 10 votes each, 20 bins: exact 0.0761
# netcal       float64 0.0761
# torchmetrics float64 0.0762
# netcal       float32 0.0535
# torchmetrics float32 0.0762
# bins with a share of 0 to 10 of 10 votes in float32
# histogramdd         0 2 4 6 8 10 12 13 16 17 19
# binned_statistic_dd 0 2 4 6 8 10 12 14 16 18 19
