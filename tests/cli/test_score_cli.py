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
    """Saved images give the attack's own numbers; ids, norm and eps come from the file and are verified."""
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
    check_held(path)
    path.unlink()  # a cell whose images are not there counts as not stored
    assert run(place, *command)[0] == 0
    assert path.exists()


def check_held(path):
    """x, ids and y, as documented."""
    held = load_file(path) if path.suffix == ".safetensors" else np.load(path)
    data = load_dataset("digits", images=12)
    assert (held["x"].dtype, held["x"].shape) == (np.float32, (12, 1, 32, 32))
    assert held["ids"].tolist() == data.ids.tolist()
    assert held["y"].tolist() == data.labels.tolist()
    assert np.abs(held["x"] - to_float(data.images).numpy()).max() <= 0.2 + 1e-6


def arrays(count=12):
    """Perturbed digits, as somebody else has them."""
    data = load_dataset("digits", images=count)
    generator = torch.Generator().manual_seed(0)
    noise = torch.empty(data.images.shape).uniform_(-0.05, 0.05, generator=generator)
    return data, (to_float(data.images) + noise).clamp(0, 1).numpy()


def test_a_budget_that_is_not_kept_is_invalid(place):
    """Exit code 4, and the row says which image leaves the ball."""
    data, x = arrays()
    np.savez(place / "far.npz", x=x, ids=data.ids.numpy())
    code, out, _ = run(place, "score", "far.npz", "--checkpoint", "tiny", "--eps", "8/255", *FEW)
    assert code == 4
    assert "leaves the ball" in json.loads(out)[1]["status"]


def test_mistakes_are_one_line(place):
    """Exit code 2, and what is wrong with the file."""
    (place / "wrong.npz").write_text("x")
    code, _, err = run(place, "score", "wrong.npz", "--checkpoint", "tiny", *FEW)
    assert (code, err.count("\n")) == (2, 1), err
    assert "wrong.npz: no images can be read from it" in err


def test_a_run_in_the_words_of_robustbench(place):
    """Percent as text, eps as a fraction, the lowest accuracy of the attacks, and what authors fill in."""
    code, out, err = run(
        place, *ATTACK, "--attack", "pgd,noise", "--eps", "8/255", "--out", "both"
    )  # and 0.2
    assert code == 0, err
    rows = json.loads(out)
    code, out, err = run(place, "show", "both", "--robustbench")
    assert code == 0, err
    large, small = json.loads(out)
    assert (small["eps"], large["eps"], large["threat_model"]) == ("8/255", "51/255", "Linf")
    assert large["clean_acc"] == f"{100 * rows[0]['accuracy']:.2f}"
    lowest = min(row["accuracy"] for row in rows if row["eps"] == 0.2)
    assert large["reported"] == f"{100 * lowest:.2f}"
    assert large["sde_bench"]["attacks"] == ["pgd", "noise"]
    assert (large["number_forward_passes"], large["link"]) == (4, None)
    assert "autoattack_acc" not in large
