"""Fixtures that many tests share."""

import pytest

from robustbench_sde.data import ImageDataset, load_dataset


@pytest.fixture(scope="session")
def digits() -> ImageDataset:
    """The test split of the embedded digits."""
    return load_dataset("digits", split="test")
