"""The embedded digits: a fixed split with fixed pixels."""

import numpy as np
import pytest
import torch

from robustbench_sde.data import load_dataset
from robustbench_sde.data.digits import is_test, upsample

FINGERPRINTS = {
    "train": "sha256:71a17aefad62730973755e84b4a0a9ced34661e7b79c2791cbf586ca15a60881",
    "test": "sha256:f17d9301e2cca0482b6a38e984d74a2e9c047a6c88e29ab7bc71db3cc9cc0ea0",
}


@pytest.mark.parametrize(("split", "count"), [("train", 1437), ("test", 360)])
def test_split_is_pinned(split: str, count: int):
    """Every machine has the same 1,437 and 360 images of 1x32x32, by fingerprint."""
    data = load_dataset("digits", split=split)
    assert (len(data), data.image_shape, data.classes) == (count, (1, 32, 32), 10)
    assert data.ids.tolist() == list(range(count))
    assert data.fingerprint == FINGERPRINTS[split]


def test_split_is_stratified():
    """Each class gives its share of test images to within one."""
    train, test = (load_dataset("digits", split=split).labels.bincount() for split in ("train", "test"))
    share = (train + test) * 360 / 1797
    assert (test - share).abs().max() < 1


def test_splits_are_disjoint():
    """Both splits together are the original labels, each image once."""
    from sklearn.datasets import load_digits

    labels = load_digits().target.astype(np.int64)
    mask = is_test(labels)
    assert load_dataset("digits", split="test").labels.tolist() == labels[mask].tolist()
    assert load_dataset("digits", split="train").labels.tolist() == labels[~mask].tolist()


def test_upsampling_keeps_black_and_white():
    """0 stays 0 and 16 becomes 255, and a constant image stays constant."""
    small = torch.tensor([0.0, 8.0, 16.0]).reshape(3, 1, 1).expand(3, 8, 8)
    assert upsample(small).float().mean((1, 2, 3)).tolist() == [0, 128, 255]
