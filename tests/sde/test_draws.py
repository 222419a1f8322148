"""Keyed noise (docs/protocol.md): a draw is a function of (seed, stream, image id, draw index) alone."""

import random
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustbench_sde.sde import draws as draws_module
from robustbench_sde.sde import philox
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


@pytest.mark.parametrize("backend", ["host", "device"])
@pytest.mark.parametrize(
    ("room", "expected"), [(1, [1] * 7), (95, [1] * 7), (96, [2, 2, 2, 1]), (10**6, [7])]
)
def test_no_more_numbers_are_made_at_once_than_there_is_room_for(room, expected, backend, monkeypatch):
    """Steps of 2 draws, 3 images and 1 block are made together while they fit."""
    whole, made = BrownianPaths._numbers, []

    def numbers(self, steps):
        made.append(len(steps))
        return whole(self, steps)

    monkeypatch.setattr(BrownianPaths, "_numbers", numbers)
    monkeypatch.setattr(draws_module, "_CHUNK", room)
    assert len(paths(0, range(2), [1, 2, 3], (1, 2, 2), steps=7, backend=backend)) == 7
    assert made == expected


@pytest.mark.parametrize(
    ("backend", "cores", "room", "ahead"),
    [
        ("host", 2, 96, True),
        ("host", 1, 96, False),  # the only core computes
        ("host", 2, 10**6, False),  # all in one piece
        ("device", 2, 96, False),
    ],
)
def test_another_thread_makes_noise_ahead_where_a_core_is_idle(backend, cores, room, ahead, monkeypatch):
    """A thread makes it ahead if torch has one thread and there are two cores: the bits are the same."""
    whole, threads = BrownianPaths._numbers, set()
    expected = paths(0, range(2), [1, 2, 3], (1, 2, 2), steps=7, backend=backend)

    def numbers(self, steps):
        threads.add(threading.current_thread())
        return whole(self, steps)

    monkeypatch.setattr(BrownianPaths, "_numbers", numbers)
    monkeypatch.setattr(draws_module, "_CHUNK", room)
    monkeypatch.setattr(draws_module, "usable_processors", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert torch.equal(paths(0, range(2), [1, 2, 3], (1, 2, 2), steps=7, backend=backend), expected)
    assert threads.isdisjoint({threading.current_thread()}) == ahead


@pytest.mark.parametrize("backend", ["host", "device"])
def test_no_steps_have_no_numbers(backend):
    """An empty range of steps is an empty path."""
    path = BrownianPaths(Draws(0, Stream.SCORE), [0], (2,), steps=3, backend=backend)
    assert list(path[2:2]) == list(path[3:]) == []


def test_random_numbers_of_an_image_are_those_of_the_written_definition():
    """Site 0 and block 0 of the key of the purpose, with the draw and the image in the counter."""
    keyed, ids = KeyedRandom(5, Stream.ATTACK, "start"), [3, 2**40]
    words = philox.words(philox.key(5, "attack", "start"), [(2, i) for i in ids], 2, first_block=0, site=0)
    for law, made in ((philox.to_uniforms, keyed.uniforms), (philox.to_normals, keyed.normals)):
        expected = law(philox.signed(words))[:, :12].view(2, 3, 4)
        assert torch.equal(made(ids, (3, 4), draw=2), expected)
    order = philox.words(philox.key(5, "attack", "start"), [(2, 0)], 2, first_block=0, site=0)
    assert keyed.permutation(8, draw=2).tolist() == order.view("<u8")[0].argsort(kind="stable").tolist()


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
        paths(0, range(2, 3), [0], (4096,), 1),
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
