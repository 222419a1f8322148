#!/usr/bin/env bash
# torch 2.14.1 on the CPU: with one seed, randn(n) is not the beginning of randn(n + 1). Where n is no
# multiple of 16, numbers in the middle differ (randn(17) and randn(18): places 1 and 9), and the last 16 of
# randn(40) all differ from those of randn(48).
#
# Why it matters: The noise of an image depends on how many images the batch has, even for the images in
# front.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch


def draw(count, seed=9):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


for short, long in ((16, 32), (17, 18), (40, 41), (40, 48)):
    a, b = draw(short), draw(long)[:short]
    other = [place for place in range(short) if a[place] != b[place]]
    print(f"randn({short}) against the first {short} of randn({long}): {len(other)} differ, at places {other[:1]}..{other[-1:]}")
assert torch.equal(draw(16), draw(32)[:16]) and torch.equal(draw(32), draw(48)[:32])
assert not torch.equal(draw(17), draw(18)[:17]) and draw(17)[1] != draw(18)[1]
assert torch.equal(draw(40)[:24], draw(41)[:24]) and not torch.equal(draw(40)[24:], draw(41)[24:40])
PYTHON
# Output seen on 2026-11-27:
# randn(16) against the first 16 of randn(32): 0 differ, at places []..[]
# randn(17) against the first 17 of randn(18): 2 differ, at places [1]..[9]
# randn(40) against the first 40 of randn(41): 2 differ, at places [24]..[32]
# randn(40) against the first 40 of randn(48): 16 differ, at places [24]..[39]
