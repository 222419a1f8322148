"""A GPU computes what the CPU computes: noise, passes, records, corruptions."""

import pytest
import torch

import robustbench_sde as rb
from benchmarks.gpu.decisions import ATTACKS, CHECKPOINT, SCORED_ALONE, differences
from robustbench_sde.sde import philox
from robustbench_sde.sde.diffusion import NOISE_TERMS
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def paths(law, device, backend, shape=(8, 4, 4), words=1):
    """The numbers of two draws of three images in four steps, on the CPU."""
    made = BrownianPaths(
        Draws(3, Stream.SCORE, range(5, 7)),
        [2, 2**40, 0],
        shape,
        steps=4,
        site=65537,
        law=law,
        words=words,
        device=device,
        backend=backend,
    )
    return torch.stack([step.cpu() for step in made])


@pytest.mark.parametrize("shape", [(8, 4, 4), (5, 1, 1), (1, 1, 1), (3, 5, 7)])
@pytest.mark.parametrize("backend", ["auto", "device", "torch", "host"])
def test_keyed_noise_is_that_of_the_cpu(backend, shape):
    """Uniforms have the bits of the CPU's, normals differ by less than 2e-6, whatever makes them."""
    assert torch.equal(
        paths(philox.to_uniforms, "cuda", backend, shape), paths(philox.to_uniforms, "cpu", "host", shape)
    )
    here, there = (
        paths(philox.to_normals, device, name, shape) for device, name in (("cuda", backend), ("cpu", "host"))
    )
    assert float((here - there).abs().max()) < 2e-6


@pytest.mark.parametrize("backend", ["auto", "device", "torch", "host"])
def test_levy_noise_is_that_of_the_cpu(backend):
    """Stable numbers, whose tails are long, agree to a millionth of their size, whatever makes them."""
    term = NOISE_TERMS["levy"](0.5)
    here, there = (
        paths(term.law, device, name, (5, 3, 3), term.words)
        for device, name in (("cuda", backend), ("cpu", "host"))
    )
    assert torch.allclose(here, there, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def compared():
    """Records of both devices, by perturbation: 30 digits."""
    return {row["perturbation"]: row for row in differences(30)}


@pytest.mark.parametrize("name", SCORED_ALONE)
def test_scored_images_are_decided_as_by_the_cpu(compared, name):
    """Clean, control and corrupted images have the CPU's decisions, and no margin differs by 1e-3."""
    assert compared[name]["decisions that differ"] == 0
    assert compared[name]["margins that differ by 1e-3"] == 0


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_end_as_on_the_cpu(compared, name):
    """Rounding takes an attack to other points near by: at most 1 decision of 30 is another."""
    assert compared[name]["decisions that differ"] <= 1


def test_scoring_is_that_of_the_cpu_for_the_same_images(digits):
    """Attacked images, made once, are decided alike on both devices, and margins agree to 1e-3."""
    data = digits.subset(60)
    attacked = rb.attack(CHECKPOINT, data, "pgd", eps=0.06, steps=5, eot_draws=4, device="cpu")
    images = attacked.images
    here, there = (rb.score(CHECKPOINT, data, images, device=device).records for device in ("cuda", "cpu"))
    assert here["prediction"].equals(there["prediction"])
    assert (here["margin"] - there["margin"]).abs().max() < 1e-3
