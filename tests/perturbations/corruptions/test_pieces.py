"""Batches are corrupted piece by piece, random words and JPEG files made by threads: no bit depends on it."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from robustbench_sde.perturbations.corruptions import CORRUPTIONS, apply, corrupt, jpeg, water
from robustbench_sde.perturbations.corruptions.ahead import WordsAhead
from robustbench_sde.sde.draws import KeyedRandom, Stream


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads of torch while a test runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [*CORRUPTIONS, "uniform:0.1"])
def test_pieces_and_threads_change_no_bit(
    name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Seven images in pieces of two, with words made ahead, are those of one piece and one thread."""
    images = torch.randint(256, (7, 3, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    ids = [5, 3, 8, 1, 100, 7, 2]
    whole = [corrupt(batch, name, 4, image_ids=ids) for batch in (images, images / 255)]
    request.getfixturevalue("two_threads")
    monkeypatch.setattr(apply, "_PIECE", 2 * images[0].numel())
    pieces = [corrupt(batch, name, 4, image_ids=ids) for batch in (images, images / 255)]
    assert all(map(torch.equal, whole, pieces))


@pytest.mark.usefixtures("two_threads")
def test_words_made_ahead_are_those_of_their_keys() -> None:
    """Every piece gets the words of its own images, whether they were made ahead or not."""
    first, second = (KeyedRandom(1, Stream.ATTACK, purpose) for purpose in ("one", "two"))
    pieces = [[4, 9], [2, 7], [3]]
    with WordsAhead(pieces, draw=2) as words:
        for index, ids in enumerate(pieces):
            for random, size in ((first, 20), (second, 3), (first, 8)):
                made = words.words(random, index, size)
                assert torch.equal(made, random.words(ids, size, draw=2))


@pytest.mark.usefixtures("two_threads")
def test_jpeg_by_two_threads_keeps_the_order() -> None:
    """Five images in two threads come back in their order, with the bytes of Pillow."""
    pixels = torch.randint(256, (5, 3, 20, 31), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert torch.equal(jpeg.by_torchvision(pixels, 40), jpeg.by_pillow(pixels, 40))


def test_distances_are_those_of_all_moves() -> None:
    """Distances to random edges are the least over the sixteen moves of the 5x5 metric, in float32."""
    edges = torch.rand(3, 1, 13, 17, generator=torch.Generator().manual_seed(0)) < 0.02
    lengths = {1: 1.0, 2: 1.4, 5: 2.1969}
    expected = np.where(edges[:, 0].numpy(), np.float32(0), np.float32(20))
    for _ in range(40):
        around = np.pad(expected, ((0, 0), (2, 2), (2, 2)), constant_values=20)
        for down in range(-2, 3):
            for right in range(-2, 3):
                length = lengths.get(down**2 + right**2)
                if length is not None:
                    moved = around[:, 2 + down : 15 + down, 2 + right : 19 + right]
                    expected = np.minimum(expected, moved + np.float32(length))
    assert expected.max() > 8
    assert np.array_equal(water.edge_distance(edges)[:, 0].numpy(), expected)
