"""`sde-bench score` and `--save-images` as a user runs them."""

import json

import numpy as np
import pytest
import torch
from builders import save_digits_model
from forked import sde_bench
from safetensors.numpy import load_file

from robustbench_sde.data import load_dataset, to_float

FEW = ("--score-draws", 4, "--json", "--quiet", "--device", "cpu")
ATTACK = ("attack", "tiny", "--images", 12, *FEW, "--steps", 2, "--eot-draws", 2, "--eps", 0.2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small random checkpoint."""
    folder = tmp_path_factory.mktemp("place")
    save_digits_model(folder / "checkpoints" / "tiny.safetensors")
    return folder


def run(place, *arguments):
    process = sde_bench(*arguments, cwd=place)
    process.join(120)
    return process.exitcode, (place / "stdout.txt").read_text(), (place / "stderr.txt").read_text()


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_saved_images_are_scored_as_the_attack_was(place, kind):
    """Same images, same draws, same numbers; the file says which images, norm and eps, which are verified."""
    command = (*ATTACK, "--save-images", kind, "--out", f"run-{kind}")
    code, out, err = run(place, *command)
    assert code == 0, err
    attacked = json.loads(out)[2]
    (path,) = (place / f"run-{kind}" / "images").iterdir()
    code, out, err = run(place, "score", path, "--checkpoint", "tiny", *FEW)
    assert code == 0, err
    clean, given = json.loads(out)
    assert (clean["perturbation"], given["perturbation"]) == ("clean", "pgd on tiny")
    same = ["norm", "eps", "images", "accuracy", "accuracy_low", "single_draw_accuracy", "undecided", "brier"]
    assert [given[name] for name in same] == [attacked[name] for name in same]
    path.unlink()  # a cell whose images are not there counts as not stored
    assert run(place, *command)[0] == 0
    assert path.exists()


def arrays(count=12):
    """Perturbed digits, as somebody else has them."""
    data = load_dataset("digits", images=count)
    generator = torch.Generator().manual_seed(0)
    noise = torch.empty(data.images.shape).uniform_(-0.05, 0.05, generator=generator)
    return data, (to_float(data.images) + noise).clamp(0, 1).numpy()


FILES = {
    "x and ids": lambda data, x: {"x": x, "ids": data.ids.numpy(), "y": data.labels.numpy()},
    "channels last": lambda data, x: {"x_adv": np.moveaxis(x, 1, -1), "ids": data.ids.numpy()},
    "float64": lambda data, x: {"images": x.astype(np.float64), "ids": data.ids.numpy()},
    "no ids": lambda data, x: {"arr_0": x},
}


@pytest.mark.parametrize("name", FILES)
def test_anybodys_images_are_scored(place, name):
    """Under the usual names, with or without ids, in either order of the axes."""
    data, x = arrays()
    np.savez(place / "theirs.npz", **FILES[name](data, x))
    code, out, err = run(
        place, "score", "theirs.npz", "--checkpoint", "tiny", "--norm", "linf", "--eps", 0.05, *FEW
    )
    assert code == 0, err
    row = json.loads(out)[1]
    assert (row["perturbation"], row["images"], row["eps"]) == ("theirs", 12, 0.05)


def test_a_budget_that_is_not_kept_is_invalid(place):
    """Exit code 4, and the row says which image leaves the ball."""
    data, x = arrays()
    np.savez(place / "far.npz", x=x, ids=data.ids.numpy())
    code, out, _ = run(place, "score", "far.npz", "--checkpoint", "tiny", "--eps", "8/255", *FEW)
    assert code == 4
    assert "leaves the ball" in json.loads(out)[1]["status"]


def test_the_first_images_of_the_split_are_recognised(place):
    """Without ids, the nearest of both orders is taken."""
    data = load_dataset("digits")
    np.save(place / "first.npy", to_float(data.images[:12]).numpy())
    code, out, err = run(
        place, "score", "first.npy", "--checkpoint", "tiny", "--norm", "linf", "--eps", 0, *FEW
    )
    assert code == 0, err
    clean, given = json.loads(out)
    assert clean["accuracy"] == given["accuracy"]


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('evil').touch()",)


def write_evil(path, data, x):
    np.savez(path, x=np.array([Evil()], dtype=object))


MISTAKES = {
    "absent": (lambda path, data, x: None, "does not exist"),
    "pickle": (write_evil, "no images can be read"),
    "text": (lambda path, data, x: path.write_text("x"), "no images can be read"),
    "no images": (lambda path, data, x: np.savez(path, z=x), "it holds nothing; images are called x"),
    "shape": (lambda path, data, x: np.savez(path, x=x[:, :, :9], ids=data.ids), "images are (12, 1, 9, 32)"),
    "other labels": (
        lambda path, data, x: np.savez(path, x=x, ids=data.ids, y=1 - data.labels),
        "of 12 labels",
    ),
    "unknown ids": (
        lambda path, data, x: np.savez(path, x=x, ids=data.ids + 10_000),
        "has no test image with id",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(place, name):
    """Exit code 2; nothing in the file runs."""
    write, message = MISTAKES[name]
    path = place / "wrong.npz"
    path.unlink(missing_ok=True)
    write(path, *arrays())
    code, _, err = run(place, "score", "wrong.npz", "--checkpoint", "tiny", *FEW)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert not (place / "evil").exists()


def test_a_run_in_the_words_of_robustbench(place):
    """Percent as text, eps as a fraction, the lowest accuracy of the attacks, and what authors fill in."""
    code, out, err = run(place, *ATTACK, "--attack", "pgd,noise", "--eps", "8/255,0.2", "--out", "both")
    assert code == 0, err
    rows = json.loads(out)
    code, out, err = run(place, "show", "both", "--robustbench")
    assert code == 0, err
    small, large = json.loads(out)
    assert (small["eps"], large["eps"], large["threat_model"]) == ("8/255", "51/255", "Linf")
    assert large["clean_acc"] == f"{100 * rows[0]['accuracy']:.2f}"
    lowest = min(row["accuracy"] for row in rows if row["eps"] == 0.2)
    assert large["reported"] == f"{100 * lowest:.2f}"
    assert large["sde_bench"]["attacks"] == ["pgd", "noise"]
    assert (large["number_forward_passes"], large["link"]) == (4, None)
    assert "autoattack_acc" not in large


def test_saved_files_hold_what_is_documented(place):
    """x, ids, y and who made them, for both formats."""
    run(place, *ATTACK, "--save-images", "safetensors", "--out", "held")
    (path,) = (place / "held" / "images").iterdir()
    held = load_file(path)
    data = load_dataset("digits", images=12)
    assert {name: (array.dtype, array.shape) for name, array in held.items()} == {
        "x": (np.dtype(np.float32), (12, 1, 32, 32)), "ids": (np.dtype(np.int64), (12,)),
        "y": (np.dtype(np.int64), (12,)),
    }  # fmt: skip
    assert held["ids"].tolist() == data.ids.tolist()
    assert np.abs(held["x"] - to_float(data.images).numpy()).max() <= 0.2 + 1e-6
