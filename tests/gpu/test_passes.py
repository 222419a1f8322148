"""Passes on a GPU: recorded as graphs, in the arithmetic that was asked for, in any batch."""

from itertools import pairwise

import pytest
import torch
from builders import make_data, make_model
from torch.profiler import ProfilerActivity, profile

import robustbench_sde as rb
from benchmarks.gpu.decisions import CHECKPOINT
from benchmarks.gpu.networks import images_for, network, victim
from robustbench_sde.data import to_float
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.graphs import _Recording, forget_recordings
from robustbench_sde.sde.draws import Draws, Stream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

EAGER, GRAPHS = Compute("cuda", graphs=False), Compute("cuda")
KINDS = ["none", "additive", "multiplicative", "dropout", "jump", "levy"]


def gradient(model, images, draws, ids=None):
    """Logits of a pass, and a gradient through it."""
    images = images.clone().requires_grad_()
    logits = model.logits(images, range(len(images)) if ids is None else ids, draws)
    weights = torch.arange(logits.numel(), device="cuda").view_as(logits) / logits.numel()
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), images)[0]


def inputs(count=6):
    """A few images on the GPU."""
    return to_float(make_data(count).images).cuda()


@pytest.mark.parametrize("kind", KINDS)
def test_a_replayed_pass_is_the_pass(kind):
    """Logits and gradients of recordings equal those of eager passes and of the CPU, at ever other draws."""
    model, images = make_model(kind), inputs()
    on_gpu = make_model(kind).to("cuda")
    eager, graphs = on_gpu.with_compute(EAGER), on_gpu.with_compute(GRAPHS)
    seen = []
    for step in range(5):
        draws = Draws(step % 2, (Stream.ATTACK, Stream.SCORE)[step % 2], range(4 * step, 4 * step + 4))
        expected, found = gradient(eager, images, draws), gradient(graphs, images, draws)
        with torch.no_grad():
            alone = graphs.logits(images, range(6), draws)
        reference = model.logits(images.cpu(), range(6), draws)
        for one, other in zip((*found, alone), (*expected, expected[0]), strict=True):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
        assert torch.allclose(found[0].cpu(), reference, rtol=1e-4, atol=1e-4)
        seen.append(found[0])
    assert [type(recording) for recording in graphs._graphs.recorded.values()] == [_Recording] * 2
    if kind != "none":
        assert not any(torch.allclose(one, other) for one, other in pairwise(seen))


def test_a_gradient_that_comes_late_is_still_its_own():
    """A pass whose memory another replay has overwritten is replayed before its gradient."""
    model, images = make_model().to("cuda"), inputs()
    graphs = model.with_compute(GRAPHS)
    drawn = [Draws(0, Stream.ATTACK, range(start, start + 4)) for start in (0, 8)]
    expected = [gradient(model.with_compute(EAGER), images, draws)[1] for draws in drawn]
    for _ in range(4):
        gradient(graphs, images, drawn[0])
    asked = [images.clone().requires_grad_() for _ in drawn]
    logits = [graphs.logits(x, range(6), draws) for x, draws in zip(asked, drawn, strict=True)]
    weights = torch.arange(logits[0].numel(), device="cuda").view_as(logits[0]) / logits[0].numel()
    for x, out, wanted in zip(asked, logits, expected, strict=True):
        (found,) = torch.autograd.grad((out * weights).sum(), x)
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_recordings_follow_weights_that_move_and_can_be_forgotten():
    """New weights are used, at the same place or another, and memory comes back."""
    model, images = make_model().to("cuda").with_compute(GRAPHS), inputs()
    draws = Draws(0, Stream.SCORE, range(4))
    for _ in range(4):
        first, _ = gradient(model, images, draws)
    with torch.no_grad():
        model.head.linear.weight.mul_(2)
    assert not torch.allclose(gradient(model, images, draws)[0], first)
    model.to("cpu").to("cuda")
    eager = model.with_compute(EAGER)
    assert torch.allclose(gradient(model, images, draws)[0], gradient(eager, images, draws)[0], atol=1e-6)
    forget_recordings()
    assert not model._graphs.recorded


def test_training_is_not_recorded():
    """Passes run unrecorded if weights need gradients."""
    model, images = make_model().to("cuda").requires_grad_(True).with_compute(GRAPHS), inputs()
    for _ in range(4):
        model.logits(images, range(6), Draws(0, Stream.TRAIN)).sum().backward()
    assert not model._graphs.recorded
    assert all(weight.grad is not None for weight in model.parameters())


def test_precisions_are_what_their_names_say():
    """fp32 is the CPU's to 1e-4; tf32 and bf16 are further away, in this order; torch's flags stay."""
    model, before = network("cifar"), torch.backends.cudnn.allow_tf32
    images = images_for(model, 64)
    draws = Draws(0, Stream.SCORE, range(4))
    reference = network("cifar", "cpu")
    exact, slope = (x.cuda() for x in _on_cpu(reference, images.cpu(), draws))
    errors = []
    for precision in ("fp32", "tf32", "bf16"):
        logits, found = gradient(model.with_precision(precision).with_compute(GRAPHS), images, draws)
        errors.append([float((a - b).norm() / b.norm()) for a, b in ((logits, exact), (found, slope))])
        assert torch.backends.cudnn.allow_tf32 == before
    (fp32, fp32_slope), (tf32, _), (bf16, _) = errors
    assert fp32 < 1e-5 < tf32 < bf16 < 0.1
    assert fp32_slope < 1e-4


@pytest.mark.parametrize(("precision", "rounding"), [("tf32", 1e-2), ("bf16", 0.1)])
def test_the_layout_of_states_changes_rounding_alone(precision, rounding):
    """Recorded passes with channels innermost and outermost have the same noise: they differ by rounding."""
    model, draws = network("cifar").with_precision(precision), Draws(0, Stream.SCORE, range(4))
    images = images_for(model, 64)
    results = []
    for innermost in (True, False):
        twin = model.with_compute(Compute("cuda", channels_last=innermost))
        for _ in range(3):
            found = gradient(twin, images, draws)
        assert [type(recording) for recording in twin._graphs.recorded.values()] == [_Recording]
        results.append(found)
    for one, other in zip(*results, strict=True):
        assert float((one - other).norm() / other.norm()) < rounding


def _on_cpu(model, images, draws):
    images = images.requires_grad_()
    logits = model.logits(images, range(len(images)), draws)
    weights = torch.arange(logits.numel()).view_as(logits) / logits.numel()
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), images)[0]


@pytest.mark.parametrize("rows", [32, 100, 256])
def test_records_do_not_depend_on_the_batch(digits, rows):
    """Whatever the batch on the device, decisions are the same and margins agree to 1e-4."""
    data = digits.subset(50)
    whole, other = (
        rb.score(CHECKPOINT, data, score_draws=16, batch_size=size, device="cuda").records
        for size in (1024, rows)
    )
    assert whole["prediction"].equals(other["prediction"])
    assert (whole["margin"] - other["margin"]).abs().max() < 1e-4


def test_a_step_takes_few_launches(monkeypatch):
    """A recorded gradient is two graphs, each replayed once, and less than 200 launches around them."""
    model = network("digits").with_compute(GRAPHS)
    images = images_for(model, 64)
    asked = victim(model, images)
    for step in range(4):
        asked.gradient(images, step)
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph)))
    asked.gradient(images, 4)
    assert len(replays) == len(set(replays)) == 2
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as measured:
        asked.gradient(images, 5)
        torch.cuda.synchronize()
    names = [event.name for event in measured.events()]
    assert sum(name.startswith(("cudaLaunchKernel", "cuLaunchKernel")) for name in names) < 200
