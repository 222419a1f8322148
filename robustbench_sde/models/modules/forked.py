"""Seed the global random generators for a block of code and restore them afterwards.

Only for code that is not ours and draws from them. Everything else is keyed (`sde.draws`).
"""

import random
from collections.abc import Callable, Iterator
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


def torch_states(device: torch.device | str = "cpu") -> tuple[object, ...]:
    """Return the states of torch's generators that `forked` seeds, each as a value that can be compared."""
    device = torch.device(device)
    theirs = torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b""
    return torch.get_rng_state().numpy().tobytes(), theirs


def _states(device: torch.device | str) -> tuple[object, ...]:
    """Return the states of all generators that `forked` seeds; those of numpy take a while."""
    kind, words, *rest = np.random.get_state()  # noqa: NPY002
    numpy_state = kind, np.asarray(words).tobytes(), *rest
    return *torch_states(device), numpy_state, random.getstate()


def draws_numbers(function: Callable[[], object], device: torch.device | str = "cpu") -> bool:
    """Whether a function draws from the generators in a way that depends on how they were seeded.

    Code that seeds them itself, and draws then, leaves them alike: its result is always the same.
    """
    changed, ends = [], []
    for seed in (0, 1):
        with forked((seed, seed), device):
            before = _states(device)
            with torch.no_grad():
                function()
            after = _states(device)
        changed.append([one != other for one, other in zip(before, after, strict=True)])
        ends.append(after)
    return any(
        (first or second) and one != other for first, second, one, other in zip(*changed, *ends, strict=True)
    )
