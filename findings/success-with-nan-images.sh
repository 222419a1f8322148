#!/usr/bin/env bash
# foolbox 3.3.4: NewtonFoolAttack on a classifier whose softmax is one-hot in float32 returns images of NaN,
# and claims success for all of them.
#
# Why it matters: Success must be judged on the returned images, and images that are not finite are none.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 scipy==1.17.1 foolbox==3.3.4
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import foolbox
import torch

torch.manual_seed(6)
linear = torch.nn.Linear(49, 8)


class Sure(torch.nn.Module):
    """A classifier whose softmax is exactly one-hot in float32."""

    def forward(self, images):
        return 2000 * linear(images.flatten(1))


images = torch.rand(12, 1, 7, 7)
labels = linear(images.flatten(1)).argmax(1)
model = foolbox.PyTorchModel(Sure().eval(), bounds=(0, 1), device="cpu")
_, moved, success = foolbox.attacks.NewtonFoolAttack(steps=5)(model, images, labels, epsilons=0.5)
broken = moved.isnan().flatten(1).any(1)
print(f"success is claimed for {int(success.sum())} of 12 images; {int((success & broken).sum())} of these hold NaN")
assert (success & broken).any()
PYTHON
# Output seen on 2026-11-27:
# success is claimed for 12 of 12 images; 12 of these hold NaN
