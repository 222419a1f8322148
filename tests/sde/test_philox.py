"""The generator against its published known answers and a second implementation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_sde.sde import philox, philox_device

_MASK = 2**64 - 1


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 from the paper (Salmon et al. 2011, section 3.3), in Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ k[0], second & _MASK, (first >> 64) ^ c[3] ^ k[1], first & _MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & _MASK, (k[1] + 0xBB67AE8584CAA73B) & _MASK]
    return c


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        (
            [0] * 4,
            [0] * 2,
            [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B],
        ),
        (
            [_MASK] * 4,
            [_MASK] * 2,
            [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0],
        ),
        (
            [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
            [0x452821E638D01377, 0xBE5466CF34E90C6C],
            [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
        ),
    ],
)
def test_second_implementation_gives_the_published_answers(counter, key, answer):
    """The checking implementation itself agrees with the Random123 known-answer file."""
    assert philox4x64(counter, key) == answer


def test_words_follow_the_written_definition():
    """Words are Philox at counter (block + 1, site, draw, image), low half first."""
    key = philox.key(7, "score", "path")
    words = philox.words(key, [(3, 11), (4, 11)], 2, first_block=5, site=2)
    for row, draw in enumerate((3, 4)):
        for block in (5, 6):
            wide = philox4x64([block + 1, 2, draw, 11], [int(part) for part in key])
            expected = [half for word in wide for half in (word & 0xFFFFFFFF, word >> 32)]
            assert words[row, 8 * (block - 5) : 8 * (block - 4)].tolist() == expected


@given(
    seed=st.integers(),
    rows=st.lists(st.tuples(*[st.integers(0, 2**63 - 1)] * 2), min_size=1, max_size=4),
    blocks=st.integers(1, 5),
    first=st.integers(0, 2**62),
    site=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_words_of_the_device_are_those_of_the_host(seed, rows, blocks, first, site):
    """Torch integer operations give the words of numpy, bit for bit, whatever the key and counter."""
    key = philox.key(seed, "score", "path")
    host = philox.words(key, rows, blocks, first_block=first, site=site)
    draws, images = torch.tensor(rows).unbind(1)
    bits = torch.from_numpy(key.view("<i8").copy())
    device = philox_device.words(bits, draws, images, blocks, first_block=first, site=site)
    assert torch.equal(device, philox.signed(host))


def test_keys_differ_beyond_32_bits():
    """Seeds 5 and 5 + 2**32, streams and purposes have different keys."""
    keys = {
        tuple(philox.key(seed, stream, purpose))
        for seed in (5, 5 + 2**32, -5, 2**200)
        for stream in ("attack", "score")
        for purpose in ("path", "start")
    }
    assert len(keys) == 16


def test_extreme_words_give_finite_numbers():
    """The smallest and largest words give uniforms in [0, 1) and finite normals."""
    raw = np.array([[0, 2**32 - 1, 2**31, 2**31 - 1, 0, 2**32 - 1, 2**31, 1]], dtype=np.uint32)
    words = philox.signed(raw)
    uniforms, normals = philox.to_uniforms(words), philox.to_normals(words)
    assert uniforms.min() == 0
    assert uniforms.max() == 1 - 2**-24
    assert normals.isfinite().all()
    assert normals.abs().max() < 6.67
