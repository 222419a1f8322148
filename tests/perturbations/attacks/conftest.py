"""The trained networks that tests of attacks share; only to be read."""

from pathlib import Path

import pytest

import robustbench_sde as rb
from robustbench_sde.models.classifier import Classifier

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"


@pytest.fixture(scope="session")
def ode() -> Classifier:
    """The shipped digits ODE."""
    return rb.load_checkpoint(CHECKPOINTS / "digits-ode.safetensors")


@pytest.fixture(scope="session")
def sde() -> Classifier:
    """The shipped digits SDE with multiplicative noise."""
    return rb.load_checkpoint(CHECKPOINTS / "digits-multiplicative.safetensors")
