#!/usr/bin/env bash
# torchvision 0.29.1: v2.GaussianNoise on uint8 images cuts the noise towards zero: with sigma = 1/255, 68 %
# of the pixels stay and the standard deviation is 0.68 levels. On float images it is 1.00.
#
# Why it matters: A corruption that is applied before ToDtype is milder than its label says; at sigma = 8/255
# it still misses 5 %.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 torchvision==0.29.1
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torchvision.transforms import v2

torch.manual_seed(2)
for levels in (1, 2, 8):
    grey = torch.full((3, 400, 400), 128, dtype=torch.uint8)
    moved = v2.GaussianNoise(sigma=levels / 255)(grey).double() - 128
    print(f"sigma {levels} of 255: standard deviation {float(moved.std()):.3f}, pixels that stay {float((moved == 0).double().mean()):.3f}, mean {float(moved.mean()):+.3f}")
    if levels == 1:
        first = moved  # rounding to the nearest level would leave 38 % where they are, with a deviation of 1.04
float_image = v2.GaussianNoise(sigma=1 / 255)(torch.full((3, 400, 400), 128 / 255)) * 255 - 128
print(f"the same on a float image: standard deviation {float(float_image.std()):.3f}")
assert 0.95 < float(float_image.std()) < 1.05
assert 0.6 < float(first.std()) < 0.75 and float((first == 0).double().mean()) > 0.6
PYTHON
# Output seen on 2026-11-27:
# sigma 1 of 255: standard deviation 0.683, pixels that stay 0.683, mean +0.001
# sigma 2 of 255: standard deviation 1.643, pixels that stay 0.383, mean +0.003
# sigma 8 of 255: standard deviation 7.617, pixels that stay 0.100, mean -0.005
# the same on a float image: standard deviation 1.001
