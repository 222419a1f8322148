"""Whole passes of networks through Triton kernels, in either layout, against torch's operations."""

import pytest
import torch
from builders import make_data, make_model
from kernels import DEVICE, MARKS

from robustbench_sde.data import to_float
from robustbench_sde.models import classifier, fused, layout
from robustbench_sde.models.compute import Compute
from robustbench_sde.sde import draws as draws_module
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.sde.kernels import channels_innermost, update

pytestmark = MARKS


def gradient(model, images):
    """Logits of three draws, and a gradient through them."""
    x = images.clone().requires_grad_()
    logits = model.logits(x, range(len(x)), Draws(0, Stream.ATTACK, range(3)))
    weights = torch.arange(logits.numel(), device=x.device).view_as(logits) / logits.numel()
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), x)[0]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", ["none", "additive", "multiplicative", "dropout", "jump", "levy"])
def test_passes_through_kernels_are_those_of_torch(kind, channels_last, monkeypatch):
    """Logits and gradients agree to rounding, and every fused step has the layout that was chosen."""
    model = make_model(kind, sigma=0.3, height=16, width=16)
    images = to_float(make_data(2, model.image_shape).images)
    expected = gradient(model, images)
    for module in (draws_module, fused, classifier, layout):
        monkeypatch.setattr(module, "has_kernels", lambda device: True)
    seen, advance = [], update.advance
    monkeypatch.setattr(
        update, "advance", lambda h, *rest: seen.append(channels_innermost(h)) or advance(h, *rest)
    )
    compute = Compute(DEVICE, "device", graphs=False, channels_last=channels_last)
    reduced = model.to(DEVICE).with_precision("tf32").with_compute(compute)  # on a CPU tf32 is fp32
    found = gradient(reduced, images.to(DEVICE))
    rounding = 1e-4 if DEVICE == "cpu" else 1e-2
    for one, other in zip(found, expected, strict=True):
        assert float((one.cpu() - other).norm() / other.norm()) < rounding
    fused_kinds = {"additive", "multiplicative", "dropout"}
    assert seen == ([channels_last] * model.steps if kind in fused_kinds else [])
