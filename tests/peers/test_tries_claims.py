"""Claims of tools that stop at the first wrong draw are shares of survivors for their number of looks."""

import pytest
import torch

import robustbench_sde as rb
from benchmarks.peers import OneDraw
from benchmarks.tries import CHECKPOINT, apgd, foolbox_pgd
from robustbench_sde.data import to_float


@pytest.fixture(autouse=True)
def _torch_generator():
    """Seed torch's global generator, which the tools use, and restore it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("tool", [apgd(1, 6), apgd(2, 3), foolbox_pgd(6, 2)])
def test_a_claim_is_the_share_of_survivors(tool):
    """A tool's claim at eps 1e-9 is survives_k and below the accuracy of one draw.

    It lies within 1.7 half-widths of the 95 % interval: one seed in a thousand is a false alarm.
    """
    model = rb.load_checkpoint(CHECKPOINT).with_noise(sigma=2.5).with_solver(steps=2)
    data = rb.load_dataset("digits", images=60)
    module = OneDraw(model).eval()
    claim = tool(module, to_float(data.images), data.labels, 1e-9)
    result = rb.score(model, data, claim.images.detach().clamp(0, 1), score_draws=64)
    survives = result.survives(claim.looks)
    assert abs(claim.accuracy - survives.estimate) <= 1.7 * (survives.high - survives.low) / 2
    assert claim.accuracy < result.survives(1).low
    assert claim.accuracy < result.summary["accuracy"].iloc[-1] - 0.1


def test_looks_are_the_passes_that_apgd_takes():
    """One look before, and one after the start and after each step of every restart."""
    model = rb.load_checkpoint(CHECKPOINT).with_solver(steps=2)
    data = rb.load_dataset("digits", images=8)
    module = OneDraw(model).eval()
    claim = apgd(2, 3)(module, to_float(data.images), data.labels, 1e-9)
    assert claim.looks == module.calls == 9
