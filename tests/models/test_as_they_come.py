"""Modules as Python users have them: scripted, frozen, under no_grad; our own as modules of others."""

import subprocess
import sys
import warnings

import pytest
import torch
from builders import make_data, make_model
from models.modules import Apply, KeyedNet, Net, noisy
from torch import nn

import robustbench_sde as rb
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.models.modules.freezing import freeze
from robustbench_sde.models.smoothed import Smoothed
from robustbench_sde.runs.sources import ModuleSource


class ByParameters(torch.autograd.Function):
    """A gradient that needs those of the weights, as an adjoint solver's."""

    @staticmethod
    def forward(context, x, weight):
        context.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(context, g):
        x, weight = context.saved_tensors
        with torch.enable_grad():
            inner = x.detach().requires_grad_()
            out = inner.detach() @ weight.T
            torch.autograd.grad(out, weight, g)  # raises where the weight is frozen
        return g @ weight, None


class Adjoint(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(144, 4, bias=False)

    def forward(self, x):
        return ByParameters.apply(x.flatten(1), self.linear.weight)


def frozen(module):
    interface = examine(module, make_data(8), name="net").interface
    freeze(module, interface)
    return [not parameter.requires_grad for parameter in module.parameters()]


def test_parameters_are_frozen_unless_a_gradient_is_lost_with_them():
    """Weights of a usual module and of a script are frozen; those that its own gradient needs are not."""
    assert all(frozen(Net().eval()))
    assert all(frozen(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(144, 4))).eval()))
    assert not any(frozen(Adjoint().eval()))
    owner_froze_it = Adjoint().eval().requires_grad_(False)
    (note,) = [note for note in examine(owner_froze_it, make_data(8), name="net").notes if "gradient" in note]
    assert "no gradient of net reaches the images" in note


def test_a_script_is_taken_by_the_command_line(tmp_path, monkeypatch):
    """A file whose function loads a TorchScript module is loaded as Python loads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(144, 4)).eval()).save("s.pt")
    (tmp_path / "script.py").write_text("import torch\ndef make():\n    return torch.jit.load('s.pt')\n")
    source = ModuleSource.made_by(Factory.of("script.py:make"), make_data(8))
    assert source.load(Compute()).classes == 4


def test_attacks_and_scores_work_under_no_grad():
    """A caller's no_grad changes no number."""
    data, model = make_data(6), make_model("none")
    options = {"norm": "linf", "eps": 0.1, "steps": 2}
    free = rb.attack(model, data, "pgd", **options).records
    with torch.no_grad():
        again = rb.attack(model, data, "pgd", **options).records
        rb.as_classifier(Net().eval(), data)
    assert free.equals(again)


@pytest.mark.parametrize("thing", [object(), lambda x: x, 3])
def test_what_is_no_model_is_told_in_a_sentence(thing):
    """The message names its type, and what to give."""
    with pytest.raises(
        BenchError, match=f"a {type(thing).__name__} is not a model: give a checkpoint, an nn.Module"
    ):
        rb.attack(thing, make_data(4), "pgd", norm="linf", eps=0.1)


def test_notes_are_shown_whatever_a_file_has_silenced(tmp_path):
    """A general filter in the user's file silences no note of the command line or of Python."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.filterwarnings("ignore")
        rb.as_classifier(Net().train(), make_data(8))
    assert any("was in train()" in str(warning.message) for warning in seen)
    with warnings.catch_warnings(record=True) as seen:
        warnings.filterwarnings("ignore", category=BenchWarning)
        rb.as_classifier(Net().train(), make_data(8))
    assert not seen
    (tmp_path / "quiet.py").write_text(
        "import warnings; warnings.filterwarnings('ignore')\nfrom torch import nn\n"
        "def make(): return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))\n"
    )
    command = ["attack", "--model", "quiet.py:make", "--images", "30", "--attack", "noise", "--quiet"]
    finished = subprocess.run(
        [sys.executable, "-m", "robustbench_sde", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "was in train()" in finished.stderr


@pytest.mark.parametrize(
    "make",
    [
        lambda data: make_model("none"),
        lambda data: make_model("dropout", 0.5),
        lambda data: rb.as_classifier(KeyedNet().eval(), data),
        lambda data: rb.as_classifier(Net(before=Apply(noisy)).eval(), data),
        lambda data: Smoothed(make_model(), 0.25),
    ],
    ids=["none", "dropout", "keyed", "opaque", "smoothed"],
)
def test_fixed_draws_belong_to_no_place_in_the_batch(make):
    """A permuted batch, an image alone and an image twice give equal logits for equal images."""
    data = make_data(12)
    images, module = data.images / 255, make(data).as_module(draws=3, fixed=True)
    whole = module(images)
    order = torch.tensor([7, 3, 3, 11, 0, 5, 1, 1, 1, 9])
    torch.testing.assert_close(module(images[order]), whole[order], atol=2e-5, rtol=0)
    torch.testing.assert_close(module(images[4:5]), whole[4:5], atol=2e-5, rtol=0)


def test_a_plain_module_with_fixed_draws_is_a_function_of_the_image():
    """Place, neighbours and size of the batch change nothing; images of no rows and of float64 are taken."""
    images = make_data(5).images / 255
    module = make_model().as_module(draws=4, fixed=True)
    whole = module(images)
    torch.testing.assert_close(module(images.flip(0)).flip(0), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        torch.cat([module(images[i : i + 1]) for i in range(5)]), whole, atol=1e-5, rtol=0
    )
    for plain in (module, make_model("none").as_module()):
        empty = plain(images[:0].requires_grad_())
        assert empty.shape == (0, 4)
        assert empty.requires_grad
        double = plain(images.double())
        assert double.dtype == torch.float64
    torch.testing.assert_close(module(images.double()), whole.double(), atol=1e-6, rtol=0)
    assert (
        examine(make_model().as_module(draws=4, fixed=True), make_data(20), name="net").interface.noise
        == "none"
    )
