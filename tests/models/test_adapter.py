"""Other people's modules: what is promised of each kind, and every mistake that is found."""

import dataclasses
import random
import types

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from builders import make_data
from models.modules import Apply, KeyedNet, Net, bayesian, noisy
from torch import nn

from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.cell import check_control, evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.modules import examine as examine_module
from robustbench_sde.models.modules.adapter import Normalisation
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.sde.draws import Draws, Stream


def labelled(net, count=40, normalisation=None):
    """Images that `net` gets right, so that no note about chance is made."""
    data = make_data(count)
    with torch.no_grad():
        logits = net((normalisation or Normalisation())(to_float(data.images)))
    return dataclasses.replace(data, labels=logits.argmax(1))


def classifier(module, data, **options):
    return examine(module, data, name="net", **options).interface.around(module)


KINDS = {
    "deterministic": (lambda: Net().eval(), "none", 8),
    "keyed": (lambda: KeyedNet().eval(), "keyed", 8),
    "noise by row": (lambda: Net(before=Apply(noisy)).eval(), "opaque", 8),
    "random weights": (bayesian, "opaque", 1),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def test_kinds_are_recognised(kind):
    """Two passes agree, noise is handed over, or it is opaque, shared within a pass or not."""
    make, noise, draws_per_pass = kind
    interface = examine(make(), labelled(Net()), name="net").interface
    assert (interface.noise, interface.draws_per_pass) == (noise, draws_per_pass)


def test_records_of_every_kind_depend_on_no_batch(kind):
    """Other batch sizes, an image alone and the images in reverse have the same draws."""
    data = labelled(Net(), 10)
    model = classifier(kind[0](), data)
    images = to_float(data.images)
    reference = score_records(model, data, images, ScoreSettings(draws=12, rows=1000))
    for rows in (1, 5, 24):
        records = score_records(model, data, images, ScoreSettings(draws=12, rows=rows))
        pd.testing.assert_frame_equal(records, reference, atol=1e-5, rtol=0)
    one = data.select([7])
    alone = score_records(model, one, to_float(one.images), ScoreSettings(draws=12))
    pd.testing.assert_frame_equal(alone, reference[7:8].reset_index(drop=True), atol=1e-5, rtol=0)


def test_draws_are_keyed_by_index_and_stream(kind):
    """Draws 5 to 10 asked for alone are those of a longer request; streams, seeds and images differ."""
    data = labelled(Net(), 3)
    model = classifier(kind[0](), data)
    same = to_float(data.images[:1]).expand(3, -1, -1, -1)

    def logits(start, stop, stream=Stream.SCORE, seed=0):
        return model.logits(same, data.ids, Draws(seed, stream, range(start, stop)))

    whole = logits(0, 20)
    assert whole.shape == (20, 3, 4)
    torch.testing.assert_close(logits(5, 11), whole[5:11], atol=1e-5, rtol=0)
    if model.stochastic:
        different = [whole, logits(0, 20, Stream.ATTACK), logits(0, 20, seed=1)]
        rows = torch.cat(different).flatten(0, 1)
        assert len(rows.round(decimals=4).unique(dim=0)) == len(rows)


def test_the_control_equals_clean_and_attacks_work(kind):
    """eps = 0 gives the clean row exactly, pgd lowers the accuracy, and no global generator has moved."""
    data = labelled(Net(), 12)
    model, settings = classifier(kind[0](), data), ScoreSettings(draws=8)
    attack = make_attack("pgd", eps=0.2, steps=4, eot_draws=4)
    torch.manual_seed(3), np.random.seed(3), random.seed(3)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(3), np.random.seed(3), random.seed(3)  # noqa: NPY002
    clean, control, attacked = (
        evaluate(model, data, perturbation, settings) for perturbation in (Clean(), Control(attack), attack)
    )
    assert (torch.rand(1), np.random.rand(), random.random()) == expected  # noqa: NPY002
    check_control(clean.records, control.records)
    assert attacked.row["accuracy"] < clean.row["accuracy"] - 0.3
    assert clean.row["score_draws"] == (8 if model.stochastic else 1)


def test_outputs_of_hugging_face_and_half_precision_are_taken():
    """The field `logits` of an output, as float32."""
    data = labelled(Net(), 6)
    wrapped = Net(after=Apply(lambda y: types.SimpleNamespace(logits=y.half()))).eval()
    logits = classifier(wrapped, data).logits(to_float(data.images), data.ids, Draws(0, Stream.SCORE))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[0], Net()(to_float(data.images)), atol=0.05, rtol=0)


def test_noise_of_a_keyed_module_can_be_switched_off():
    """Zeros for noise give the logits of the module without it."""
    data = labelled(Net(), 4)
    silent = classifier(KeyedNet().eval(), data).without_noise()
    images = to_float(data.images)
    logits = silent.logits(images, data.ids, Draws(0, Stream.SCORE, range(2)))
    torch.testing.assert_close(logits, Net()(images).expand(2, -1, -1))


def test_a_module_keeps_its_mode_and_dropout_at_test_time_is_kept():
    """train() as a whole is switched off for the pass only; dropout alone in train() is meant."""
    data = labelled(Net())
    net = Net(before=nn.Dropout(0.5)).train()
    assert not classifier(net, data).stochastic
    assert all(part.training for part in net.modules())
    net.eval().before.train()
    assert classifier(net, data).stochastic
    assert [part.training for part in net.modules()].count(True) == 1


class Counting(nn.Module):
    """Other numbers each time, whatever the seeds."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x + self.calls


WRONG = {
    "batch norm in train()": (
        lambda: Net(before=nn.BatchNorm2d(1)),
        "BatchNorm 'before' uses the statistics",
    ),
    "probabilities": (lambda: Net(after=nn.Softmax(1)), "net returns probabilities: leave the softmax"),
    "no tensor": (lambda: Net(after=Apply(lambda y: [y])), "net: the module returns a list"),
    "wrong shape": (
        lambda: Net(after=Apply(lambda y: y[:, :, None])),
        r"net returns \(4, 4, 1\) for 4 images",
    ),
    "one row": (lambda: Net(after=Apply(lambda y: y.mean(0))), r"net returns \(4,\) for 4 images"),
    "classes": (lambda: Net(after=nn.Linear(4, 10)), "net has 10 outputs, random has 4 classes"),
    "not finite": (lambda: Net(after=Apply(lambda y: y / 0)), "net returns logits that are not finite"),
    "another shape": (
        lambda: Net(before=nn.Conv2d(3, 1, 1)),
        "net fails on images of 4x1x12x12: RuntimeError",
    ),
    "unseeded": (lambda: Net(before=Counting()), "random in a way that the seeds"),
    "batch": (lambda: Net(before=Apply(lambda x: x - x.mean(0))), "depend on the images beside it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_numbers_wrong_is_refused(name):
    """One line says what is wrong and what to do."""
    make, message = WRONG[name]
    module = make().eval()
    if name == "batch norm in train()":
        module.before.train()
    with pytest.raises(BenchError, match=message) as caught:
        examine(module, labelled(Net()), name="net")
    assert "\n" not in str(caught.value)


def waves(mean=0.0, std=1.0):
    """Net behind a sine, whose inputs are to be normalised."""
    return Net(before=Apply(lambda x: (9 * (x * std + mean)).sin())).eval()


SUSPECT = {
    "train()": (lambda: Net().train(), "net was in train()"),
    "[-1, 1]": (lambda: waves(0.5, 0.5), "normalize 0.5,0.5?"),
    "0-255": (lambda: waves(0, 1 / 255), "normalize 0,0.00392157?"),
    "no gradient": (lambda: Net(before=Apply(torch.detach)).eval(), "no gradient of net reaches the images"),
    "zeros": (lambda: Net(before=Apply(torch.round)).eval(), "only a gradient of zeros"),
    "opaque": (lambda: Net(before=Apply(noisy)).eval(), "noise of its own (opaque): a pass is 8 draws"),
}


@pytest.mark.parametrize("name", SUSPECT)
def test_what_may_be_wrong_is_said(name):
    """Notes name the mistake and the remedy."""
    make, message = SUSPECT[name]
    data = labelled(waves() if "1" in name or "255" in name else Net(), 128)
    notes = examine(make(), data, name="net").notes
    assert any(message in note for note in notes), notes


def test_a_module_without_mistakes_has_no_notes():
    """Right scale, eval mode, deterministic, better than chance."""
    assert examine(waves(), labelled(waves(), 128), name="net").notes == ()
    scale = Normalisation((0.5,), (0.5,))
    assert examine(waves(0.5, 0.5), labelled(waves()), name="net", normalisation=scale).notes == ()


def test_an_untrained_module_is_said_to_be_at_chance():
    """So is one whose classes are in another order."""
    (note,) = examine(Net().eval(), make_data(40), name="net").notes
    assert "which is chance" in note


def test_attacks_without_a_gradient_say_so():
    """The error names attacks that need none."""
    data = labelled(Net(), 4)
    model = classifier(Net(before=Apply(torch.detach)).eval(), data)
    with pytest.raises(BenchError, match="use attacks without gradients"):
        evaluate(model, data, make_attack("pgd", eps=0.1, steps=1), ScoreSettings())


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [("0.5,0.5", (0.5,), (0.5,)), ("0,1/255", (0.0,), (1 / 255,)), ("1,2,3,4", (1.0, 2.0), (3.0, 4.0))],
)
def test_normalisations_are_read(text, mean, std):
    """One number for all channels or one each, fractions too."""
    assert Normalisation.parse(text) == Normalisation(mean, std)


@pytest.mark.parametrize("text", ["0.5", "a,b", "0.5,0", "1/0,1", "nan,1"])
def test_wrong_normalisations_are_one_sentence(text):
    """Odd counts, words, zero deviations."""
    with pytest.raises(BenchError, match="normalize"):
        Normalisation.parse(text)


def test_a_normalisation_must_fit_the_channels():
    """Two means for one channel are refused."""
    with pytest.raises(BenchError, match="images have 1 channels"):
        examine(Net().eval(), make_data(4), name="net", normalisation=Normalisation.parse("0,0,1,1"))


def test_the_scale_of_imagenet_is_that_of_torchvision():
    """The normalisation that a note proposes has the means and deviations of torchvision's weights."""
    published = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert Normalisation(tuple(published.mean), tuple(published.std)) == examine_module._IMAGENET
