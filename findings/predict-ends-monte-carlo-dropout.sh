#!/usr/bin/env bash
# adversarial-robustness-toolbox 1.20.1: predict() puts the whole network in eval(), also a dropout layer that
# the user had left on: the random classifier is deterministic from then on, in the user's own object too.
#
# Why it matters: Attacks on Monte Carlo dropout through this wrapper measure another classifier, without a
# warning.
#
# Exits with 0 while this is so, and with 1 when it has changed. Python 3.11, CPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile torch==2.14.1 numpy==2.4.6 scipy==1.17.1 scikit-learn packaging adversarial-robustness-toolbox==1.20.1
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier

torch.manual_seed(8)
dropout = torch.nn.Dropout(0.4)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(49, 64), dropout, torch.nn.Linear(64, 8)).eval()
dropout.train()  # Monte Carlo dropout: the classifier is random on purpose
images = np.random.default_rng(0).random((5, 1, 7, 7), dtype=np.float32)
random_before = not torch.equal(network(torch.tensor(images)), network(torch.tensor(images)))
classifier = PyTorchClassifier(network, loss=torch.nn.CrossEntropyLoss(), input_shape=(1, 7, 7), nb_classes=8, device_type="cpu")
equal = np.array_equal(classifier.predict(images), classifier.predict(images))
print(f"random before: {random_before}; predict gives equal answers twice: {equal}; the user's own dropout is still on: {dropout.training}")
classifier.loss_gradient(images, np.eye(8, dtype=np.float32)[[0, 1, 2, 3, 4]])
print("after loss_gradient:", dropout.training)
assert random_before and equal and not dropout.training
PYTHON
# Output seen on 2026-11-27:
# random before: True; predict gives equal answers twice: True; the user's own dropout is still on: False
# after loss_gradient: False
