"""Weights that no state dict holds."""

import sys

import torch
from builders import make_data
from torch import nn

from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.runs.sources import ModuleSource

HELD = """
import torch
from torch import nn

class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.nets = [nn.Linear(144, 4)]
        self.nets[0].load_state_dict(torch.load("w.pt"))

    def forward(self, x):
        return self.nets[0](x.flatten(1))

def make():
    return Held().eval()
"""


def test_other_weights_in_a_plain_list_are_other_work(tmp_path, monkeypatch):
    """The code and the empty state dict are the same; the logits of the first images tell them apart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "held.py").write_text(HELD)
    keys = []
    for scale in (1.0, 1.0, 1.1):
        torch.manual_seed(0)
        weights = {name: scale * tensor for name, tensor in nn.Linear(144, 4).state_dict().items()}
        torch.save(weights, tmp_path / "w.pt")
        keys.append(ModuleSource.made_by(Factory.of("held.py:make"), make_data(8)).sha256)
    assert keys[0] == keys[1] != keys[2]
