"""Batches are corrupted piece by piece, with any number of threads: no bit depends on it."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from robustbench_sde.perturbations.corruptions import CORRUPTIONS, apply, corrupt, water


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
    """Seven images in pieces of two, with two threads, are those of one piece and one thread."""
    images = torch.randint(256, (7, 3, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    ids = [5, 3, 8, 1, 100, 7, 2]
    whole = [corrupt(batch, name, 4, image_ids=ids) for batch in (images, images / 255)]
    request.getfixturevalue("two_threads")
    monkeypatch.setattr(apply, "_PIECE", 2 * images[0].numel())
    pieces = [corrupt(batch, name, 4, image_ids=ids) for batch in (images, images / 255)]
    assert all(map(torch.equal, whole, pieces))


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
