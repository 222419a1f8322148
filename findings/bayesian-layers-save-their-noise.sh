#!/usr/bin/env bash
# blitz 0.2.8: a forward pass in eval() and no_grad() changes the state dict (the last noise is a buffer), and
# safetensors refuses that state dict because tensors share memory. torchbnn 1.2: freeze() adds entries;
# loaded with strict=False into a new layer they are dropped, and the layer is random again.
#
# Why it matters: A hash of the weights is another one after each use, and a frozen network that was saved is
# not frozen when it is loaded.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 torchbnn==1.2 blitz-bayesian-pytorch==0.2.8 safetensors==0.8.0
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torchbnn
from blitz.modules import BayesianLinear
from safetensors.torch import save

layer = BayesianLinear(5, 2).eval()
weights = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
with torch.no_grad():
    layer(torch.randn(3, 5))
changed = sorted(name for name, tensor in layer.state_dict().items() if not torch.equal(tensor, weights[name]))
print("blitz: one forward pass in eval() and no_grad() changes these entries of the state dict:", changed)
assert changed == ["bias_sampler.eps_w", "weight_sampler.eps_w"]
try:
    save(layer.state_dict())
except RuntimeError as error:
    print("blitz: safetensors refuses the state dict:", str(error).split(",")[0][:60])
else:
    raise AssertionError("safetensors took it")

frozen, fresh, images = torchbnn.BayesLinear(0, 0.1, 5, 2), torchbnn.BayesLinear(0, 0.1, 5, 2), torch.randn(3, 5)
before = set(frozen.state_dict())
frozen.freeze()
added = sorted(set(frozen.state_dict()) - before)
print("torchbnn: freeze() adds to the state dict:", added)
report = fresh.load_state_dict(frozen.state_dict(), strict=False)
print("torchbnn: loaded into a new layer, unexpected:", sorted(report.unexpected_keys), "| new layer still random:", not torch.equal(fresh(images), fresh(images)))
assert added == ["bias_eps", "weight_eps"] == sorted(report.unexpected_keys)
assert torch.equal(frozen(images), frozen(images)) and not torch.equal(fresh(images), fresh(images))
PYTHON
# Output seen on 2026-11-27:
# blitz: one forward pass in eval() and no_grad() changes these entries of the state dict: ['bias_sampler.eps_w', 'weight_sampler.eps_w']
# blitz: safetensors refuses the state dict:
#             Some tensors share memory
# torchbnn: freeze() adds to the state dict: ['bias_eps', 'weight_eps']
# torchbnn: loaded into a new layer, unexpected: ['bias_eps', 'weight_eps'] | new layer still random: True
