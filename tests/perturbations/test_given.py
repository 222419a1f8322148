"""Anybody's images: which they are, how they are read, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from builders import make_data, make_model
from safetensors.numpy import save_file

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError, BenchWarning, InvalidEvaluationError
from robustbench_sde.perturbations.given import Given, images_of
from robustbench_sde.storage.images import PerturbedImages

WHOLE = dataclasses.replace(make_data(40, (3, 12, 12)), class_names=tuple("abcd"))


def moved(data):
    """Floats near the images of `data`."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.empty(data.images.shape).uniform_(-0.05, 0.05, generator=generator)
    return (to_float(data.images) + noise).clamp(0, 1).numpy()


def read(path):
    found = PerturbedImages.read(path)
    data = images_of(found, WHOLE)
    return data, Given.read(found, data, name=path.stem)


TAKEN = WHOLE.select([7, 3, 30])
FILES = {
    "x and ids": {"x": moved(TAKEN), "ids": TAKEN.ids.numpy(), "y": TAKEN.labels.numpy()},
    "int32 ids": {"x": moved(TAKEN), "ids": TAKEN.ids.numpy().astype(np.int32)},
    "channels last": {"x_adv": np.moveaxis(moved(TAKEN), 1, -1), "ids": TAKEN.ids.numpy()},
    "float64": {"images": moved(TAKEN).astype(np.float64), "ids": TAKEN.ids.numpy()},
    "uint8": {"arr_0": TAKEN.images.numpy(), "ids": TAKEN.ids.numpy()},
}


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("name", FILES)
def test_anybodys_images_are_read(name, ending, tmp_path):
    """Under the usual names, in either order of the axes, floats or uint8."""
    arrays = {key: np.ascontiguousarray(array) for key, array in FILES[name].items()}
    path = tmp_path / f"theirs.{ending}"
    if ending == "npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path)
    data, given = read(path)
    assert data.ids.tolist() == [7, 3, 30]
    assert (given.label, given.images.dtype) == ("theirs", torch.float32)
    expected = to_float(TAKEN.images) if name == "uint8" else torch.from_numpy(moved(TAKEN))
    torch.testing.assert_close(given.images, expected)


@pytest.mark.parametrize("which", ["whole", "first", "subset"])
def test_images_without_ids_are_recognised(which, tmp_path):
    """The whole split, its first n, or the n that everybody's --images takes: the nearest."""
    data = {"whole": WHOLE, "first": WHOLE.select(WHOLE.ids[:9]), "subset": WHOLE.subset(9)}[which]
    np.save(tmp_path / "x.npy", moved(data))
    assert read(tmp_path / "x.npy")[0].ids.tolist() == data.ids.tolist()


def test_a_ball_that_is_claimed_is_verified():
    """A ball claimed by the file or the caller is checked; images outside make the evaluation invalid."""
    data = make_data(6)
    images = torch.from_numpy(moved(data))
    rb.score(make_model(), data, images, norm="linf", eps=0.05)
    with pytest.raises(InvalidEvaluationError, match="leaves the ball"):
        rb.score(make_model(), data, images, norm="linf", eps=0.04)
    with pytest.raises(BenchError, match="belong to a norm"):
        rb.score(make_model(), data, images, eps=0.04)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8), ("linf", 1.01), ("l2", 12.1)])
def test_a_ball_that_holds_all_images_is_refused(norm, eps):
    """8 is meant in grey levels: every image would be inside."""
    data = make_data(6)
    with pytest.raises(BenchError, match=r"^`eps` is .*: eight grey levels are 8/255$"):
        rb.score(make_model(), data, data.images, norm=norm, eps=eps)


@pytest.mark.parametrize(("outside", "norm"), [(3e-6, ""), (3e-8, ""), (3e-6, "linf"), (3e-6, "l2")])
def test_rounding_is_moved_back_and_said(outside, norm):
    """Up to 1e-5 outside of [0, 1] or the ball; the images that are scored are inside."""
    data = make_data(6)
    clean = to_float(data.images)
    step = (0.05 + outside) / (1 if norm == "linf" else 12)
    images = clean + step * torch.where(clean < 0.5, 1.0, -1.0) if norm else clean.clone()
    if not norm:
        images[2, 0, 0, :2] = torch.tensor([-outside, 1 + max(outside, 2e-7)])
    asked = {"norm": norm, "eps": 0.05} if norm else {}
    with pytest.warns(BenchWarning, match=r"of 6 images left \[0, 1\] or their ball by at most 1e-05"):
        result = rb.score(make_model(), data, images, **asked)
    assert result.ok
    assert 0 <= result.images.min() <= result.images.max() <= 1
    if norm:
        assert result.records[norm].max() <= 0.05 + 1e-6


def test_beyond_the_tolerance_the_message_says_by_how_much():
    """And if rounding to 8 bits in a ball of 7.65 grey levels looks like the reason, it says so."""
    data = make_data(6)
    clean = to_float(data.images)
    with pytest.raises(InvalidEvaluationError, match=r"leaves \[0, 1\] by 0\.02$"):
        rb.score(make_model(), data, clean.clamp(max=0.9) * 1.02 / 0.9)
    rounded = (255 * (clean + 0.03 * torch.where(clean < 0.5, 1.0, -1.0))).round() / 255
    with pytest.raises(InvalidEvaluationError, match=r"by 0\.0014; the images look rounded .* eps is 7.65"):
        rb.score(make_model(), data, rounded, norm="linf", eps=0.03)
    with pytest.raises(InvalidEvaluationError, match=r"leaves the ball linf .* by 0\.0039$"):
        rb.score(make_model(), data, rounded, norm="linf", eps=7 / 255)
    assert rb.score(make_model(), data, rounded, norm="linf", eps=8 / 255).ok


def test_what_a_file_says_of_itself_stays_text(tmp_path):
    """Norm and eps are taken, unless the caller says others; its words are made fit for a table."""
    about = {"perturbation": "[bold]pgd", "checkpoint": "net\n", "norm": "l2", "eps": 0.5}
    PerturbedImages(moved(TAKEN), TAKEN.ids.numpy(), None, about).write(tmp_path / "x.npz")
    given = read(tmp_path / "x.npz")[1]
    assert (given.label, given.norm, given.eps) == ("_bold_pgd on net_", "l2", 0.5)
    found = PerturbedImages.read(tmp_path / "x.npz")
    other = Given.read(found, TAKEN, name="x", norm="linf", eps=0.1)
    assert (other.norm, other.eps) == ("linf", 0.1)
    about["fingerprint"] = "sha256:other"
    PerturbedImages(moved(TAKEN), TAKEN.ids.numpy(), None, about).write(tmp_path / "x.npz")
    with pytest.raises(BenchError, match="made of another"):
        read(tmp_path / "x.npz")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('evil').touch()",)


IDS = TAKEN.ids.numpy()
WRONG = {
    "pickle": ({"x": np.array([Evil()], dtype=object)}, "no images can be read"),
    "no images": ({"z": moved(TAKEN)}, "it holds nothing; images are called x"),
    "shape": ({"x": moved(TAKEN)[:, :, :9], "ids": IDS}, r"images are \(3, 3, 9, 12\)"),
    "integers": ({"x": IDS.reshape(3, 1, 1, 1)}, "not uint8 or floats"),
    "too few ids": ({"x": moved(TAKEN), "ids": IDS[:2]}, r"ids are int64 \(2,\)"),
    "float ids": ({"x": moved(TAKEN), "ids": IDS / 2}, "whole numbers"),
    "labels": ({"x": moved(TAKEN), "ids": IDS, "y": 3 - TAKEN.labels.numpy()}, "3 of 3 labels"),
    "unknown ids": ({"x": moved(TAKEN), "ids": IDS + 100}, "has no test image with id"),
    "repeated ids": ({"x": moved(TAKEN), "ids": IDS * 0}, "ids must be"),
    "too many": ({"x": np.zeros((41, 3, 12, 12), np.float32)}, "there are 41 images, and 40"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_one_sentence(name, tmp_path, monkeypatch):
    """Nothing in the file runs."""
    monkeypatch.chdir(tmp_path)
    arrays, message = WRONG[name]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(BenchError, match=message) as caught:
        read(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()
