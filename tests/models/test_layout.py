"""Where the channels of states lie: who decides it, and that no number depends on it."""

import pytest
import torch
from builders import make_data, make_model

from robustbench_sde.data import to_float
from robustbench_sde.models import layout
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.layout import puts_channels_last, with_channels_last
from robustbench_sde.sde.draws import Draws, Stream

LIU2020 = {"architecture": "liu2020", "stem_strides": (1, 1, 2), "blocks": 2, "height": 16, "width": 16}
ODENET = {"architecture": "odenet", "stem_strides": (1, 2, 2), "height": 16, "width": 16}


@pytest.mark.parametrize(
    ("precision", "compute", "kernels", "frozen", "expected"),
    [
        ("bf16", Compute("cuda"), True, True, True),
        ("tf32", Compute("cuda"), True, True, True),
        ("fp32", Compute("cuda"), True, True, False),
        ("bf16", Compute("cuda", channels_last=False), True, True, False),
        ("bf16", Compute("cuda", compile=True), True, True, False),
        ("bf16", Compute("cuda"), False, True, False),
        ("bf16", Compute("cuda"), True, False, False),
    ],
)
def test_channels_lie_innermost_where_that_is_faster(
    monkeypatch, precision, compute, kernels, frozen, expected
):
    """Reduced precision, kernels and frozen weights are needed, and `Compute` can switch the layout off."""
    monkeypatch.setattr(layout, "has_kernels", lambda device: kernels and device.type == "cuda")
    assert puts_channels_last(compute, precision, torch.device("cuda"), frozen=frozen) is expected
    assert not puts_channels_last(compute, precision, torch.device("cpu"), frozen=frozen)


def test_states_keep_their_values():
    """The layout is another, the values are the same, and a second call copies nothing."""
    states = torch.rand(2, 3, 4, 5, 6)
    turned = with_channels_last(states)
    assert torch.equal(turned, states)
    assert turned.stride() == (3 * 120, 120, 1, 6 * 4, 4)
    assert with_channels_last(turned).data_ptr() == turned.data_ptr()


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *((kind, {}) for kind in ("none", "additive", "multiplicative", "dropout", "jump", "levy")),
        ("multiplicative", {"solver": "milstein"}),
        ("additive", {"solver": "heun"}),
        ("multiplicative", {"blocks": 2}),
        ("multiplicative", LIU2020),
        ("none", ODENET | {"solver": "rk4"}),
        ("none", ODENET | {"architecture": "odenet-residual"}),
    ],
)
def test_no_number_depends_on_the_layout(monkeypatch, kind, changes, precision):
    """Logits and gradients of every noise, solver and architecture are those of the usual layout."""
    model = make_model(kind, **changes).with_precision(precision)
    images = to_float(make_data(3, model.image_shape).images)
    seen = []
    monkeypatch.setattr(layout, "has_kernels", lambda device: True)
    turn = with_channels_last
    monkeypatch.setattr(
        "robustbench_sde.models.classifier.with_channels_last", lambda h: seen.append(1) or turn(h)
    )
    results = []
    for innermost in (False, True):
        twin = model.with_compute(Compute(channels_last=innermost))
        x = images.clone().requires_grad_()
        logits = twin.logits(x, range(3), Draws(0, Stream.ATTACK, range(2)))
        results.append((logits.detach(), torch.autograd.grad(logits[..., 0].sum(), x)[0]))
        assert bool(seen) is innermost
    rounding = 1e-5 if precision == "tf32" else 0.05
    for usual, other in zip(*results, strict=True):
        assert float((usual - other).norm() / usual.norm()) < rounding
