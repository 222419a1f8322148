"""Draws in pairs (docs/protocol.md): on three streams draw 2j + 1 is draw 2j mirrored, and nowhere else."""

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_sde.sde import philox
from robustbench_sde.sde.diffusion import NOISE_TERMS
from robustbench_sde.sde.draws import BrownianPaths, Draws, KeyedRandom, Stream
from robustbench_sde.sde.keyed import KeyedRows

PAIRED = [Stream.ATTACK, Stream.SELECT, Stream.SCORE]
APART = [Stream.TRAIN, Stream.AUDIT, Stream.CERTIFY]
KINDS = sorted(NOISE_TERMS)
_MASK = 2**64 - 1


def numbers(kind, stream, indices, ids=(5, 2**40), shape=(5, 3, 3), backend="host", seed=3, steps=3):
    """Make (steps, draws, images, *shape) numbers of a kind of noise."""
    term = NOISE_TERMS[kind](0.5)
    options = {"steps": steps, "site": 7, "law": term.law, "words": term.words, "backend": backend}
    return torch.stack(list(BrownianPaths(Draws(seed, stream, indices), list(ids), shape, **options)))


def words_of(stream, draw, image, blocks):
    """Words of a draw by another implementation, from the paper (Salmon et al. 2011), in Python integers."""
    digest = hashlib.blake2b(f"sde-bench/1:3:{stream}:path".encode(), digest_size=16).digest()
    found = []
    for block in range(blocks):
        c = [block + 1, 0, draw, image]
        k = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")]
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(second >> 64) ^ c[1] ^ k[0], second & _MASK, (first >> 64) ^ c[3] ^ k[1], first & _MASK]
            k = [(k[0] + 0x9E3779B97F4A7C15) & _MASK, (k[1] + 0xBB67AE8584CAA73B) & _MASK]
        found += [half for word in c for half in (word & 0xFFFFFFFF, word >> 32)]
    return found


def normals_of(words):
    """Box-Muller in double precision, by the written definition."""
    half = len(words) // 2
    radius = [math.sqrt(-2 * math.log((word % 2**31 + 0.5) * 2.0**-31)) for word in words[:half]]
    angle = [(word - 2**32 * (word >= 2**31)) * math.pi * 2.0**-31 for word in words[half:]]
    return [r * math.cos(a) for r, a in zip(radius, angle, strict=True)] + [
        r * math.sin(a) for r, a in zip(radius, angle, strict=True)
    ]


@pytest.mark.parametrize("stream", list(Stream))
@pytest.mark.parametrize("draw", [6, 7, 2**61 + 1, 2**62 + 5])
def test_numbers_are_those_of_the_written_definition(stream, draw):
    """Normals and uniforms of an odd draw are mirrored ones of the even draw before it, on three streams."""
    mirrored = stream in PAIRED and draw % 2 == 1
    words = words_of(stream, draw - mirrored, 2**40, 2)
    sign = -1 if mirrored else 1
    for backend in ("host", "device"):
        path = BrownianPaths(
            Draws(3, stream, range(draw, draw + 1)), [2**40], (16,), steps=1, backend=backend
        )
        (made,) = path
        expected = torch.tensor([sign * z for z in normals_of(words)], dtype=torch.float64)
        assert torch.allclose(made[0, 0].double(), expected, rtol=1e-6, atol=1e-6)
        options = {"steps": 1, "backend": backend, "law": philox.to_uniforms}
        (made,) = BrownianPaths(Draws(3, stream, range(draw, draw + 1)), [2**40], (16,), **options)
        top = [(word ^ (0xFFFFFFFF if mirrored else 0)) >> 8 for word in words]
        assert (made[0, 0].double() * 2**24).tolist() == top


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", PAIRED)
@pytest.mark.parametrize("backend", ["host", "device"])
def test_pairs_cancel_exactly(kind, stream, backend):
    """Numbers of a pair add up to 0, and uniforms to the largest uniform, in every bit."""
    made = numbers(kind, stream, range(4), backend=backend)
    total = made[:, 0::2] + made[:, 1::2]
    assert (total == (1 - 2**-24 if kind == "jump" else 0)).all()
    assert not torch.equal(made[:, 0], made[:, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_noise_of_a_pair_cancels(kind):
    """A term takes away from a state in one draw of a pair what it adds in the other."""
    term = NOISE_TERMS[kind](0.5) if kind != "jump" else NOISE_TERMS[kind](0.5, rate=4.0)
    first, second = numbers(kind, Stream.SCORE, range(2), shape=(40, 3, 3))[0]
    h, drift = torch.full((2, 40, 3, 3), 0.75), torch.full((2, 40, 3, 3), 0.5)
    added = [term.add_noise(torch.zeros_like(h), 0.0, h, drift, z, 0.125) for z in (first, second)]
    assert torch.equal(added[0], -added[1])
    assert added[0].abs().max() > 0


@pytest.mark.parametrize(
    ("stream", "digest"),
    [("train", "c7aea4f6d230b0e7"), ("audit", "31e99e01eae692a8"), ("certify", "9577dd68093fb76d")],
)
def test_streams_without_pairs_have_the_bits_of_definition_1(stream, digest):
    """Digests were recorded with the code before pairs existed."""
    found = hashlib.sha256()
    for kind in ("additive", "jump", "levy"):
        for step in numbers(kind, Stream(stream), range(1, 5)):
            found.update(step.numpy().tobytes())
    assert found.hexdigest()[:16] == digest


@given(
    first=st.integers(0, 2**40),
    count=st.integers(1, 7),
    size=st.integers(1, 5),
    kind=st.sampled_from(KINDS),
    stream=st.sampled_from(list(Stream)),
    backend=st.sampled_from(["host", "device"]),
)
@settings(max_examples=60, deadline=None)
def test_pieces_of_any_size_have_the_numbers_of_the_whole(first, count, size, kind, stream, backend):
    """Draws cut into odd pieces, from any draw on, with images in any order, keep every bit."""
    draws = Draws(3, stream, range(first, first + count))
    whole = numbers(kind, stream, draws.indices, shape=(3,))
    pieces = [
        numbers(kind, stream, piece.indices, ids=(2**40, 5), shape=(3,), backend=backend)
        for piece in draws.chunks(size)
    ]
    assert torch.equal(torch.cat(pieces, 1).flip(2), whole)


@pytest.mark.parametrize("stream", list(Stream))
def test_independent_draws_have_no_partner_among_each_other(stream):
    """They are even draws on a stream with pairs, and consecutive ones elsewhere."""
    draws = Draws.independent(3, stream, 2, 3)
    assert list(draws.indices) == ([4, 6, 8] if stream in PAIRED else [2, 3, 4])
    assert [piece.indices.start for piece in draws.chunks(1)] == list(draws.indices)
    made = numbers("additive", stream, draws.indices, ids=[0], shape=(4096,), steps=1)[0, :, 0]
    assert torch.corrcoef(made)[~torch.eye(3, dtype=torch.bool)].abs().max() < 5 / 64


def test_numbers_that_belong_to_no_path_have_no_pairs():
    """Starts of an attack differ from draw to draw as they did."""
    keyed = KeyedRandom(3, Stream.ATTACK, "start")
    assert (keyed.normals([0], (8,), draw=0) + keyed.normals([0], (8,), draw=1)).abs().min() > 0


def test_the_table_of_the_device_names_mirrored_draws():
    """Draw 2j + 1 stands there as -1 - 2j, whatever the size of the index; without pairs as it is."""
    key = philox.key(3, "score", "path")
    for first in (0, 5, 2**62, 2**63 - 3):
        rows = KeyedRows.of(key, range(first, first + 3), [9], "cpu", True)
        wanted = [draw if draw % 2 == 0 else -draw for draw in range(first, first + 3)]
        assert rows.counters[:, 0].tolist() == wanted
        assert rows.draws_and_images()[0].tolist() == [draw & ~1 for draw in range(first, first + 3)]
        plain = KeyedRows.of(key, range(first, first + 3), [9], "cpu")
        assert plain.counters[:, 0].tolist() == list(range(first, first + 3))


def test_jumps_keep_their_law():
    """A share p / 2 of a million uniforms jumps up, and the same share down."""
    jump = NOISE_TERMS["jump"](0.5, rate=0.3)
    grid = torch.arange(2**20, dtype=torch.float32)[None] * 2.0**-20
    ones = torch.ones_like(grid)
    moved = jump.add_noise(torch.zeros_like(grid), 0.0, ones, ones, grid, 1.0)
    up, down = int((moved > 0).sum()), int((moved < 0).sum())
    assert abs(up - 0.15 * 2**20) <= 1
    assert abs(down - 0.15 * 2**20) <= 1
