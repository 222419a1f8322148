"""The measures by which modules are examined: boundaries and closed forms."""

import math
import sysconfig
from pathlib import Path

import pytest
import torch
from builders import make_data
from models.modules import Net
from safetensors.torch import save_file

from robustbench_sde.models.modules import code
from robustbench_sde.models.modules.examine import _fingerprint, examine
from robustbench_sde.models.modules.hub import _under
from robustbench_sde.models.modules.independence import _reaches_others
from robustbench_sde.models.modules.probe import distance, weighted

NAN, INF = math.nan, math.inf


def test_a_network_that_is_sure_of_everything_has_a_gradient():
    """Probabilities of one leave a cross-entropy without a gradient, and no note says that it is blocked."""
    net = Net().eval()
    with torch.no_grad():
        net.linear.weight.mul_(0.01)
        net.linear.bias.copy_(torch.tensor([1e4, 0, 0, 0]))
    notes = examine(net, make_data(8), name="net").notes
    assert not any("gradient" in note for note in notes)


@pytest.mark.parametrize(("count", "said"), [(19, False), (20, True)])
def test_chance_is_told_from_twenty_images_on(count, said):
    """With fewer images an accuracy as low as chance says nothing about a network."""
    notes = examine(Net().eval(), make_data(count), name="net").notes
    assert any("which is chance" in note for note in notes) == said


def test_fingerprints_forgive_a_two_thousandth_of_the_largest_output_and_no_more():
    """Outputs are rounded to a 1024th of the power of two above the largest, whatever their scale."""
    outputs = torch.tensor([[900.0, 300.0], [-1.0, 0.0]]) / 1024
    for scale in (1.0, 64.0, 2.0**-20):
        same = _fingerprint(scale * outputs)
        assert _fingerprint(scale * (outputs + 0.4 / 1024)) == same
        assert _fingerprint(scale * (outputs + 0.6 / 1024)) != same
    assert _fingerprint(2 * outputs) != _fingerprint(outputs)


@pytest.mark.parametrize(
    ("one", "other", "scale", "expected"),
    [
        ([1.0, -4.0], [1.0, -3.0], None, 0.25),
        ([1.0, -4.0], [1.0, -3.0], [10.0], 0.1),
        ([NAN, 1e-3], [NAN, 2e-3], None, 1.0),
        ([NAN, 0.5], [0.5, 0.5], None, INF),
        ([INF, 0.5], [INF, 0.25], None, 0.5),
        ([INF, -INF], [-INF, -INF], [2.0], INF),
        ([0.0, 0.0], [0.0, 0.0], None, 0.0),
    ],
)
def test_a_distance_is_relative_to_the_largest_finite_number(one, other, scale, expected):
    """Equal numbers, NaN among them, differ by nothing; a number and none differ by infinity."""
    scale = None if scale is None else torch.tensor(scale)
    assert distance(torch.tensor(one), torch.tensor(other), scale) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("function", "reach"),
    [
        (lambda x: x, 0.0),
        (lambda x: x + 0.25 * x.roll(1, 0), 0.25),
        (lambda x: x.roll(1, 0), INF),
        (lambda x: 0 * x, 0.0),
        (lambda x: x.detach(), 0.0),
    ],
)
def test_a_gradient_reaches_others_relative_to_the_image_itself(function, reach):
    """A share of its own gradient; without one of its own infinitely much, or nothing."""
    images = torch.ones(4, 2).requires_grad_()
    assert _reaches_others(function(images), images, 2) == pytest.approx(reach)


def test_a_weighted_sum_of_outputs_cancels_nothing():
    """Logits of which one is minus the other, or all are equal, have a sum that depends on the image."""
    x = torch.ones(3).requires_grad_()
    for outputs in (torch.stack((x, -x), 1), torch.stack((x, x, x), 1)):
        (slope,) = torch.autograd.grad(weighted(outputs), x)
        assert (slope.abs() > 0.5).all()


SITE = Path(sysconfig.get_path("purelib"))


@pytest.mark.parametrize(
    ("file", "top", "users"),
    [
        ("model/net.py", "net", True),
        ("model/libs/torch/nn.py", "torch", False),  # where pip has installed with --target
        ("editable/part/a.py", "part", True),
        ("elsewhere/helper.py", "helper", True),  # no distribution has it
        ("elsewhere/torch/nn.py", "torch", False),  # a distribution has it, wherever it lies
        (SITE / "torch/nn/__init__.py", "torch", False),
        (SITE / "copied_by_hand.py", "copied_by_hand", False),
    ],
)
def test_a_file_is_the_users_where_no_installation_has_put_it(file, top, users, tmp_path, monkeypatch):
    """Beside the model, in an editable install, or known to no distribution; never in site-packages."""
    monkeypatch.setattr(code, "_editable_places", lambda: (tmp_path / "editable",))
    (tmp_path / "model/libs/torch-2.dist-info").mkdir(parents=True)
    assert code.is_users(tmp_path / file, top, tmp_path / "model") == users


def test_numbers_of_classes_and_channels_are_those_of_the_weights(tmp_path):
    """Read from the first weight of the layers that timm names; an absent or flat one says nothing."""
    path = tmp_path / "w.safetensors"
    save_file(
        {
            "fc.weight": torch.zeros(7, 5),
            "stem.conv1.weight": torch.zeros(5, 3, 2, 2),
            "norm.weight": torch.zeros(5),
        },
        path,
    )
    assert _under(path, "fc", "conv1") == {"num_classes": 7, "in_chans": 3}
    assert _under(path, "head", None) == {}
    assert _under(path, "fc", "norm") == {"num_classes": 7}
