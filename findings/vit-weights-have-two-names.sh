#!/usr/bin/env bash
# transformers 5.24.0: the file that save_pretrained() of a ViT writes has other names than the state_dict()
# of the same object, so that load_state_dict() of one's own file fails; from_pretrained() renames. A ResNet
# of the same library has the same names in both.
#
# Why it matters: A tool that reads weights with safetensors and load_state_dict(strict=False) would evaluate
# a network with random attention layers.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 transformers==5.24.0 safetensors==0.8.0
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import tempfile

import torch
from safetensors.torch import load_file
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
vit = ViTForImageClassification(ViTConfig(**small, image_size=16, patch_size=8, num_labels=3)).eval()
resnet = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=3)).eval()
names = {}
for model in (vit, resnet):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        disk = load_file(f"{folder}/model.safetensors")
        again = type(model).from_pretrained(folder).eval()
    result = type(model)(model.config).load_state_dict(disk, strict=False)
    names[type(model).__name__] = (len(result.missing_keys), len(result.unexpected_keys))
    image = torch.rand(1, 3, 16, 16) if model is vit else torch.rand(1, 3, 64, 64)
    assert torch.equal(model(image).logits, again(image).logits), "from_pretrained must read what was written"
    print(type(model).__name__, "names missing, unexpected:", names[type(model).__name__])
    for odd in result.unexpected_keys[:2]:
        print("   on disk, and not in state_dict():", odd)
assert names["ViTForImageClassification"][0] > 5 and names["ResNetForImageClassification"] == (0, 0)
PYTHON
# Output seen on 2026-11-27:
# ViTForImageClassification names missing, unexpected: (16, 16)
#    on disk, and not in state_dict(): vit.encoder.layer.0.attention.attention.key.bias
#    on disk, and not in state_dict(): vit.encoder.layer.0.attention.attention.key.weight
# ResNetForImageClassification names missing, unexpected: (0, 0)
