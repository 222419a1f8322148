"""A network whose robustness is a fake, for `sde-bench audit --model examples/masked.py:rounded`.

It is the shipped digits ODE behind a rounding of its input to nine grey levels. Rounding has the gradient
zero almost everywhere: attacks with gradients find nothing, and the accuracy under pgd stays what it was.
"""

import torch
from torch import Tensor, nn

import robustbench_sde as rb
from robustbench_sde.sde.draws import Draws, Stream


class Rounded(nn.Module):
    """Rounds, then classifies."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = rb.load_checkpoint("digits-ode")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        draw = Draws(0, Stream.AUDIT)  # an ODE has only one
        return self.inner.logits((images * 8).round() / 8, torch.arange(len(images)), draw)[0]


def rounded() -> nn.Module:
    """The masked network."""
    return Rounded().eval()
