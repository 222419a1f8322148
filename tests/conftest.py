"""Fixtures that many tests share, and how many cases hypothesis tries."""

import os

import pytest
from hypothesis import settings

from robustbench_sde.data import ImageDataset, load_dataset

# the same cases in every build; HYPOTHESIS_PROFILE=thorough looks for new ones (`make fuzz`)
settings.register_profile("default", derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def digits() -> ImageDataset:
    """The test split of the embedded digits."""
    return load_dataset("digits", split="test")
