"""Our classifiers as foolbox sees them, and a seed for its global random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from eagerpy.astensor import astensor, astensor_
from foolbox.models.base import Model
from foolbox.types import Bounds
from torch import Tensor

from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.sde.draws import KeyedRandom


class FoolboxModel(Model):
    """A foolbox model whose logits are the log of the mean probability over attack draws.

    Draws are folded into one pass, and every call uses the next ones; passes are counted by the victim, the
    backward ones when a gradient really arrives. Softmax of the output is the mean probability.
    """

    data_format = "channels_first"

    def __init__(self, victim: Victim, *, first_step: int = 0, fixed_draws: int | None = None) -> None:
        """Wrap a victim.

        Args:
            victim: what is attacked.
            first_step: step whose draws the first call uses.
            fixed_draws: every call uses the same draws, so many: a decision that never changes.
        """
        self._victim, self._step, self._fixed_draws = victim, first_step, fixed_draws

    @property
    def bounds(self) -> Bounds:
        """Smallest and largest pixel value."""
        return Bounds(0, 1)

    def __call__(self, inputs: Any) -> Any:
        """(B, C, H, W) to (B, classes), eagerpy or torch."""
        tensor, restore = astensor_(inputs)
        log_probs = self._victim.log_probs(tensor.raw, self._step, draws=self._fixed_draws)
        if self._fixed_draws is None:
            self._step += 1
        return restore(astensor(log_probs))


@contextmanager
def seeded(start: KeyedRandom, image_id: Tensor, restart: int) -> Iterator[None]:
    """Seed torch's global generator for one image, and restore it afterwards."""
    uniform = start.uniforms(image_id.view(1), (1,), draw=restart)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(int(uniform.item() * 2**24))
        yield
