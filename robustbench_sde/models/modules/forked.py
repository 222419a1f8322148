"""Seed the global random generators for a block of code and restore them afterwards.

Only for code that is not ours and draws from them. Everything else is keyed (`sde.draws`).
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from robustbench_sde.sde import philox
from robustbench_sde.sde.draws import Stream

#: 32-bit words that seed the generators, a different one or more each
Seeds = tuple[int, ...]


def seeds(seed: int, stream: Stream, image_id: int, block: int) -> Seeds:
    """Return four words that follow from (seed, stream, image, block of draws) alone."""
    words = philox.words(philox.key(seed, stream, "opaque"), [(block, image_id)], 1)
    return tuple(int(word) for word in words[0, :4])


@contextmanager
def forked(words: Seeds, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the generators of torch (of the CPU and of `device`), numpy and Python, and restore them.

    torch keeps 32 bits of a seed on the CPU: two of n passes share their numbers with a probability of about
    n^2 / 2^33.
    """
    device = torch.device(device)
    accelerator = [] if device.type == "cpu" else [device.index or 0]
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    kind = "cuda" if device.type == "cpu" else device.type
    try:
        with torch.random.fork_rng(devices=accelerator, device_type=kind):
            torch.random.manual_seed(words[0])
            np.random.seed(words[1:])  # noqa: NPY002
            random.seed(words[1])
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
