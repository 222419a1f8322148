"""The measures by which modules are examined: boundaries and closed forms."""

import math
import random
import sys
import sysconfig
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import make_data
from models.modules import Apply, Net
from safetensors.torch import save_file
from scipy.stats import f

from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.models.modules import code
from robustbench_sde.models.modules.adapter import DRAWS_PER_PASS
from robustbench_sde.models.modules.examine import _fingerprint, examine
from robustbench_sde.models.modules.forked import draws_numbers
from robustbench_sde.models.modules.hub import _under
from robustbench_sde.models.modules.independence import _PASSES, _reaches_others, _rows_share_noise
from robustbench_sde.models.modules.passes import Passes
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


def test_images_of_low_contrast_beside_an_image_are_tried():
    """A network that acts on others only where those have little contrast gets a pass for each image."""

    def act(x):
        contrast = x.flatten(1).std(1)
        return x * (1 + 0.01 * ((contrast > 0.01) & (contrast < 0.1)).any())

    interface = examine(Net(before=Apply(act)).eval(), make_data(8), name="net").interface
    assert interface.alone


@pytest.mark.parametrize(("images", "said"), [(19, False), (20, True)])
def test_chance_is_told_from_twenty_images_on(images, said):
    """An accuracy as low as chance says nothing about a network with fewer images."""
    notes = examine(Net().eval(), make_data(images), name="net").notes
    assert any("which is chance" in note for note in notes) == said


def test_fingerprints_forgive_a_two_thousandth_of_the_largest_output_and_no_more():
    """Outputs are rounded to a 1024th of the power of two above the largest, whatever their scale."""
    outputs = torch.tensor([[900.0, 300.0], [-1.0, 0.0]]) / 1024
    for scale in (1.0, 64.0, 2.0**-20):
        same = _fingerprint(scale * outputs)
        assert _fingerprint(scale * (outputs + 0.4 / 1024)) == same
        assert _fingerprint(scale * (outputs + 0.6 / 1024)) != same
    assert _fingerprint(2 * outputs) != _fingerprint(outputs)
    assert _fingerprint(outputs) == "1d92f5adea7d9706"  # in the keys of stored cells


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


@pytest.mark.parametrize("scale", [1e-4, 1.0])
@pytest.mark.parametrize("rows", [2, 3, 5])
def test_a_batch_of_any_size_is_looked_at(rows, scale):
    """Rows that act on each other in batches of one size alone make its first pass invalid."""
    passes = Passes("net", alone=False, exact=True)
    with pytest.raises(InvalidEvaluationError, match=rf"in a batch of {rows} .* \(by 50%\)"):
        passes(lambda x: scale * x.flatten(1) * (1 + (len(x) == rows)), torch.ones(rows, 1, 1, 3))
    assert passes(lambda x: x.flatten(1), torch.ones(rows, 1, 1, 3)).shape == (rows, 3)


class Scripted:
    """A probe with given outputs of one class: a sign of each row in each pass, and effects of both."""

    name = "net"

    def __init__(self, by_pass, by_row):
        by_both, by_passes, by_rows = (
            (-1.0) ** numbers
            for numbers in (
                torch.arange(_PASSES)[:, None] + torch.arange(DRAWS_PER_PASS),
                torch.arange(_PASSES)[:, None],
                torch.arange(DRAWS_PER_PASS),
            )
        )
        self.outputs = by_both + by_pass * by_passes + by_row * by_rows

    def images(self, number):
        return torch.zeros(number, 1, 1, 1)

    def run(self, images, seed):
        return self.outputs[seed, :, None]


def critical(between, within):
    """Ratio of variances that chance exceeds once in a hundred thousand times, by degrees of freedom."""
    return float(f.isf(1e-5, between, within))


@pytest.mark.parametrize(("factor", "found"), [(0.99, False), (1.01, True)])
def test_shared_noise_is_found_at_the_false_alarm_rate_that_is_promised(factor, found):
    """The two F tests, of passes and of places, have the degrees of freedom of an analysis of variance."""
    passes, rows = _PASSES, DRAWS_PER_PASS
    # an effect of size a of the passes: between = rows a^2 passes / (passes - 1), within = rows / (rows - 1)
    ratio = critical(passes - 1, passes * (rows - 1))
    a = math.sqrt(factor * ratio * (passes - 1) / (passes * (rows - 1)))
    assert _rows_share_noise(Scripted(a, 0.0)) is found
    # of the rows: passes b^2 rows / (rows - 1), and what is left is passes rows / ((passes - 1) (rows - 1))
    b = math.sqrt(factor * critical(rows - 1, (passes - 1) * (rows - 1)) / (passes - 1))
    if found:
        with pytest.raises(BenchError, match="belongs to the place in the batch"):
            _rows_share_noise(Scripted(0.0, b))
    else:
        assert not _rows_share_noise(Scripted(0.0, b))


def test_a_weighted_sum_of_outputs_cancels_nothing():
    """Logits of which one is minus the other, or all are equal, have a sum that depends on the image."""
    x = torch.ones(3).requires_grad_()
    for outputs in (torch.stack((x, -x), 1), torch.stack((x, x, x), 1)):
        (slope,) = torch.autograd.grad(weighted(outputs), x)
        assert (slope.abs() > 0.5).all()


def seeded_itself():
    torch.manual_seed(5)
    torch.rand(3), np.random.seed(5), np.random.rand()  # noqa: NPY002


def only_in_call(number):
    """Return a function that draws in one of its calls, and not in the others."""
    calls = count(1)
    return lambda: next(calls) == number and torch.rand(1)


@pytest.mark.parametrize(
    ("function", "draws"),
    [
        (lambda: None, False),
        (lambda: torch.rand(1), True),
        (lambda: np.random.rand(), True),  # noqa: NPY002
        (lambda: random.random(), True),
        (seeded_itself, False),
        (only_in_call(1), True),
        (only_in_call(2), True),
    ],
)
def test_a_function_that_draws_from_a_global_generator_is_seen(function, draws):
    """Whichever generator, in whichever call; not where it seeds the generator itself."""
    assert draws_numbers(function) is draws


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


def test_modules_are_found_and_not_imported(tmp_path, monkeypatch):
    """A part of a package is found in the folder of the package, which is not loaded."""
    (tmp_path / "somebodys").mkdir()
    for name in ("__init__", "part"):
        (tmp_path / f"somebodys/{name}.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path)
    found = [code._find(name) for name in ("somebodys", "somebodys.part")]
    assert [Path(spec.origin).name for spec in found] == ["__init__.py", "part.py"]
    assert code._find("somebodys.nothing") is None
    assert "somebodys" not in sys.modules


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
