"""How networks are computed: what changes numbers, and what must not."""

import shutil
from pathlib import Path

import pytest
import torch
from builders import make_data, make_model
from torch._dynamo.utils import counters

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import tell_once
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute, check_precision
from robustbench_sde.models.probabilities import log_mean, log_probabilities
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source
from robustbench_sde.sde.draws import Draws, Stream

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def test_the_noise_backend_changes_no_bit():
    """Logits with noise from the device are those with noise from the host."""
    model, data = make_model(), make_data()
    logits = [
        twin.logits(to_float(data.images), data.ids, Draws(0, Stream.SCORE, range(3)))
        for twin in (model, model.with_compute(Compute(noise_backend="device")))
    ]
    assert torch.equal(*logits)


def test_the_choices_of_speed_stand_in_manifests():
    """Texts of a command line become choices, and a manifest has them all."""
    made = Compute.of("cpu", noise_backend="torch", memory_limit="2GB", compile=True, graphs=False)
    assert made.describe() == {
        "device": "cpu",
        "noise_backend": "torch",
        "memory_limit": 2 * 10**9,
        "memory_share": 1.0,
        "compile": True,
        "graphs": False,
        "channels_last": True,
        "strict_versions": False,
    }
    assert Compute.of("cpu").graphs
    assert Compute.of("cpu").describe()["noise_backend"] == "host"


def test_auto_is_decided_where_a_pass_is_computed():
    """A process without a GPU leaves the noise backend open, since tasks of a cluster may have one."""
    assert Compute.of("cpu").noise_backend == "auto"
    assert Compute.of("cpu", noise_backend="host").noise_backend == "host"


def test_precision_is_part_of_a_cells_key(digits):
    """bf16 has other numbers, so it is another cell; fp32 is the default."""
    path = CHECKPOINTS / "digits-ode.safetensors"
    keys = [
        Cell(Source.of(path, digits, **given), Clean(), ScoreSettings()).key(digits)
        for given in ({}, {"precision": "fp32"}, {"precision": "bf16"})
    ]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_a_precision_that_a_processor_has_no_instructions_for_is_told(monkeypatch, recwarn, capability):
    """bf16 takes ten times as long as fp32 without AVX-512, and nothing else would say so. Once is enough."""
    tell_once.cache_clear()
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    for precision, device in (("fp32", "cpu"), ("bf16", "cuda"), ("bf16", "")):
        check_precision(precision, device)
    assert not recwarn.list
    for _ in range(2):
        rb.load_checkpoint(CHECKPOINTS / "digits-ode.safetensors", precision="bf16")
    assert [str(told.message) for told in recwarn.list] == (
        ["this processor has no AVX-512: bf16 takes about ten times as long on it as fp32"]
        if capability == "AVX2"
        else []
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_drift_decides_and_differentiates_alike(digits):
    """Decisions on 50 digits and 4 draws are the same, gradients agree to float tolerance.

    An image with a ReLU whose input is zero up to rounding has another gradient on its other side. Which they
    are depends on the processor: one image of 50 with AVX2 (by 0.4 %), none with AVX-512. Two may be.
    """
    data = digits.subset(50)
    plain = rb.load_checkpoint(CHECKPOINTS / "digits-multiplicative.safetensors")
    results = []
    for model in (plain, plain.with_compute(Compute(compile=True))):
        images = to_float(data.images).requires_grad_()
        log_probs = model.logits(images, data.ids, Draws(0, Stream.ATTACK, range(4))).log_softmax(-1)
        (gradient,) = torch.autograd.grad(log_probs[..., 0].sum(), images)
        results.append((log_mean(log_probs).argmax(1), gradient))
    (decisions, gradients), (same, near) = results
    assert torch.equal(decisions, same)
    apart = (gradients - near).flatten(1).norm(dim=1) / gradients.flatten(1).norm(dim=1)
    assert (apart > 1e-5).sum() <= 2
    assert apart.max() < 0.02


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_drift_is_not_compiled_anew_for_every_time():
    """Twelve steps have as many graphs as three: torch gives up after eight, without a word to the caller."""
    graphs = []
    for steps in (3, 12):
        torch.compiler.reset()
        counters.clear()
        model = make_model(steps=steps).with_compute(Compute(compile=True))
        model.logits(to_float(make_data().images), make_data().ids, Draws(0, Stream.SCORE, range(3)))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 0


@pytest.mark.parametrize("name", ["ode", "additive", "multiplicative", "dropout"])
def test_bf16_decides_as_fp32(digits, name):
    """On 100 clean digits and 8 draws every decision of every shipped checkpoint is the same."""
    data = digits.subset(100)
    draws = Draws(0, Stream.SCORE, range(8))
    decisions = [
        log_mean(log_probabilities(model, to_float(data.images), data.ids, draws, rows=256)).argmax(1)
        for model in (
            rb.load_checkpoint(CHECKPOINTS / f"digits-{name}.safetensors", precision=precision)
            for precision in ("fp32", "bf16")
        )
    ]
    assert torch.equal(*decisions)
