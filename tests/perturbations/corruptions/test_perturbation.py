"""Corruptions as perturbations of a cell."""

import math
import os

import pytest
import torch
from builders import make_data, make_model
from PIL import Image

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.corruptions import Corrupted, make_corruptions
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source


def perturbed(perturbation, data, **options):
    return perturbation(make_model(), to_float(data.images), data.labels, data.ids, **options)


@pytest.mark.parametrize("name", ["gaussian_noise", "frost", "pixelate", "jpeg_compression"])
def test_images_are_those_of_corrupt_on_uint8(name):
    """The images that are scored are the stored bytes of a published set, over 255; no pass is counted."""
    data = make_data(5)
    result = perturbed(Corrupted(name, 4), data, seed=3)
    stored = rb.corrupt(data.images, name, 4, image_ids=data.ids, seed=3)
    assert torch.equal(result.images, to_float(stored))
    assert int(result.forward_passes.sum() + result.backward_passes.sum()) == 0


def test_plain_perturbations_stay_floats():
    """Noise of a given size is not truncated: theory has no quantisation."""
    data = make_data(5)
    images = perturbed(Corrupted("gaussian:0.01"), data).images
    inside = (images > 0) & (images < 1)
    assert not torch.allclose((images[inside] * 255).round(), images[inside] * 255, atol=1e-3)
    assert abs(float((images - to_float(data.images))[inside].mean())) < 1e-3


def test_an_image_does_not_depend_on_its_batch():
    """Batches of one and of all, and the reverse order, give the same bytes; another seed gives others."""
    data = make_data(7)
    whole = perturbed(Corrupted("snow", 3), data).images
    assert torch.equal(perturbed(Corrupted("snow", 3), data, rows=1).images, whole)
    backwards = data.select(data.ids.flip(0))
    assert torch.equal(perturbed(Corrupted("snow", 3), backwards).images.flip(0), whole)
    assert not torch.equal(perturbed(Corrupted("snow", 3), data, seed=1).images, whole)


def test_its_row_says_what_it_is():
    """The summary has name and severity; plain ones and clean images have none."""
    model, data = make_model(), make_data(6)
    row = evaluate(model, data, Corrupted("fog", 2), ScoreSettings(draws=4)).row
    assert (row["perturbation"], row["norm"], row["severity"]) == ("fog", "", 2.0)
    assert 0 <= row["ece"] <= 1
    assert 0 <= row["brier"] <= 2
    for plain in (Corrupted("rotation:10"), Clean()):
        assert math.isnan(evaluate(model, data, plain, ScoreSettings(draws=4)).row["severity"])


def test_all_that_decides_the_image_is_in_the_key(tmp_path):
    """Another severity or family is other work; --frost-dir is, for frost alone."""
    data, source = make_data(3), Source("m", "0" * 64)

    def key(corruption):
        return Cell(source, corruption, ScoreSettings()).key(data)

    base, other = Corrupted("fog", 1), Corrupted("fog", 2)
    assert len({key(base), key(other), key(Corrupted("fog", 1, "imagenet"))}) == 3
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        (tmp_path / name).touch()
    fog, frost = make_corruptions("fog,frost", [1], frost_dir=tmp_path)
    assert key(fog) == key(base)
    assert key(frost) != key(Corrupted("frost", 1))


def test_the_photographs_decide_the_key_and_the_images_not_their_place(tmp_path):
    """Others in the same folder are other work, the same ones elsewhere are not; synthetic frost has none."""
    data, source = make_data(3), Source("m", "0" * 64)

    def photographs(folder, brightness):
        folder.mkdir(exist_ok=True)
        for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
            Image.new("RGB", (200, 200), (brightness,) * 3).save(folder / name)
            os.utime(folder / name, ns=(brightness, brightness))
        frost = make_corruptions("frost", [1], frost_dir=folder)[0]
        return Cell(source, frost, ScoreSettings()).key(data), perturbed(frost, data).images

    here, images = photographs(tmp_path / "here", 10)
    assert photographs(tmp_path / "there", 10)[0] == here
    other, others = photographs(tmp_path / "here", 200)
    assert other != here
    assert not torch.equal(images, others)
    plain = "Corrupted(corruption='frost', severity=1, family=None, frost_dir=None)"
    assert repr(Corrupted("frost", 1)) == plain  # as keys have always had it


def test_names_make_cells():
    """Corruptions at every severity, plain ones once, each name once."""
    made = make_corruptions("fog,weather,gaussian:0.1", [1, 5])
    assert [(m.corruption, m.severity) for m in made[:2]] == [("fog", 1), ("fog", 5)]
    assert (made[-1].corruption, made[-1].severity) == ("gaussian:0.1", None)
    assert len(made) == len(set(made)) == 2 * 5 + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fgo", 1), "did you mean 'fog'"),
        (("fog", 6), "from 1 to 5"),
        (("fog", None), "from 1 to 5"),
        (("gaussian:0.1", 3), "takes no severity"),
        (("fog", 1, "cifra"), "did you mean 'cifar'"),
    ],
)
def test_wrong_values_are_one_sentence(arguments, message):
    """Names, severities and families are checked when it is made."""
    with pytest.raises(BenchError, match=message):
        Corrupted(*arguments)


def test_a_folder_without_photographs_is_named(tmp_path):
    """Before any work is done."""
    with pytest.raises(BenchError, match=r"lacks frost photographs"):
        make_corruptions("frost", [1], frost_dir=tmp_path)
