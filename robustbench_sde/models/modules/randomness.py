"""Find out whether a module keeps generators of its own, which no seed of an evaluation reaches."""

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from robustbench_sde.models.modules.probe import Probe


def generators_move(probe: Probe, count: int) -> bool:
    """Whether a pass of `count` images moves a generator that a part of the module keeps as its attribute.

    Noise that is rare, in one pass of a hundred say, is not seen in the outputs of a few passes.
    """
    before = list(_own_states(probe.module))
    probe.run(probe.images(count))
    return list(_own_states(probe.module)) != before


def _own_states(module: nn.Module) -> Iterator[str]:
    """Yield the states of the generators that are attributes of a module or of its parts."""
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Generator):
                yield str(value.get_state().tolist())
            elif isinstance(value, np.random.Generator):
                yield str(value.bit_generator.state)
            elif isinstance(value, random.Random):
                yield str(value.getstate())
