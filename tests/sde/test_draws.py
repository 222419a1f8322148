"""Keyed noise (docs/protocol.md): a draw is a function of (seed, stream, image id, draw index) alone."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustbench_sde.sde import draws as draws_module
from robustbench_sde.sde.draws import BrownianPaths, Draws, KeyedRandom, Stream

IDS = st.lists(st.integers(0, 2**40), min_size=1, max_size=5, unique=True)


def paths(seed, indices, ids, shape=(2, 3, 3), steps=3, stream=Stream.SCORE, site=0, backend="host"):
    draws = Draws(seed, stream, indices)
    return torch.stack(list(BrownianPaths(draws, ids, shape, steps=steps, site=site, backend=backend)))


@given(seed=st.integers(), ids=IDS, first=st.integers(0, 2**40), data=st.data())
@settings(max_examples=40, deadline=None)
def test_noise_of_an_image_is_the_same_in_any_batch(seed, ids, first, data):
    """One image and one draw taken out of a batch, in any order, have the same bits."""
    shuffled = data.draw(st.permutations(ids))
    batch = paths(seed, range(first, first + 3), shuffled)
    image = data.draw(st.sampled_from(ids))
    alone = paths(seed, range(first + 1, first + 2), [image])
    assert torch.equal(batch[:, 1, shuffled.index(image)], alone[:, 0, 0])


@given(shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)), steps=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_noise_does_not_depend_on_how_many_steps_are_made_at_once(shape, steps):
    """Steps generated one by one equal steps generated in one piece."""
    whole = paths(0, range(2), [1, 2], shape, steps)
    default = draws_module._CHUNK
    try:
        draws_module._CHUNK = 1
        pieces = paths(0, range(2), [1, 2], shape, steps)
    finally:
        draws_module._CHUNK = default
    assert torch.equal(whole, pieces)


@pytest.mark.parametrize("shape", [(2, 3, 3), (5, 1, 1), (4, 8, 8)])
def test_noise_does_not_depend_on_the_backend(shape):
    """The host and the device generate the same bits."""
    host, device = (paths(3, range(2, 5), [7, 2**40], shape, backend=name) for name in ("host", "device"))
    assert torch.equal(host, device)


def test_large_batches_have_the_bits_of_small_ones():
    """Vectorised transforms give the same bits whatever the length of the batch (odd sizes included)."""
    ids = list(range(37))
    whole = paths(3, range(5), ids, (7, 5, 3), steps=2)
    for index in (0, 17, 36):
        assert torch.equal(whole[:, :, index], paths(3, range(5), [ids[index]], (7, 5, 3), steps=2)[:, :, 0])


def test_streams_sites_seeds_and_draws_are_independent():
    """Whatever part of the key differs, the noise is uncorrelated (bound: 5 standard errors)."""
    variants = [
        paths(0, range(1), [0], (4096,), 1),
        paths(1, range(1), [0], (4096,), 1),
        paths(2**32, range(1), [0], (4096,), 1),
        paths(0, range(1, 2), [0], (4096,), 1),
        paths(0, range(1), [1], (4096,), 1),
        paths(0, range(1), [0], (4096,), 1, stream=Stream.ATTACK),
        paths(0, range(1), [0], (4096,), 1, site=1),
    ]
    correlation = np.corrcoef(torch.stack(variants).flatten(1).numpy())
    off_diagonal = correlation[~np.eye(len(variants), dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / 64


def test_increments_are_standard_normal():
    """Kolmogorov-Smirnov on 200,000 normals, and on sums over steps; false alarms 1 in 1,000 each."""
    normals = paths(11, range(5), range(10), (10, 10, 10), steps=4)
    assert stats.kstest(normals.flatten().numpy(), "norm").pvalue > 1e-3
    path_ends = normals.sum(0) / 2
    assert stats.kstest(path_ends.flatten().numpy(), "norm").pvalue > 1e-3


def test_starts_are_uniform():
    """Kolmogorov-Smirnov on 100,000 uniforms; false alarms 1 in 1,000."""
    uniforms = KeyedRandom(0, Stream.ATTACK, "start").uniforms(range(10), (100, 100))
    assert stats.kstest(uniforms.flatten().numpy(), "uniform").pvalue > 1e-3


@given(size=st.integers(1, 500), draw=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_permutations_are_permutations_and_keyed(size, draw):
    """Each index appears once, and the same key gives the same order."""
    keyed = KeyedRandom(0, Stream.TRAIN, "order")
    order = keyed.permutation(size, draw=draw)
    assert sorted(order.tolist()) == list(range(size))
    assert torch.equal(order, keyed.permutation(size, draw=draw))


def test_chunks_partition_the_draws():
    """Chunks have the draws in order, once each."""
    draws = Draws(0, Stream.SCORE, range(10, 27))
    assert [index for chunk in draws.chunks(5) for index in chunk.indices] == list(range(10, 27))


def test_no_global_generator_is_read_or_written():
    """Global states of torch, numpy and Python are the same afterwards and make no difference."""
    before = (torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    first = paths(0, range(2), [0])
    after = (torch.random.get_rng_state(), np.random.get_state()[1], random.getstate())  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]
    torch.manual_seed(123)
    assert torch.equal(first, paths(0, range(2), [0]))
