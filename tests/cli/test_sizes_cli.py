"""`--resize`, `--crop` and `--class-order` wherever a data set is named: commands, suites and Python."""

import json

import numpy as np
import pandas as pd
import pytest
from builders import save_digits_model
from PIL import Image
from typer.main import get_command

import robustbench_sde as rb
from robustbench_sde.cli.app import app
from robustbench_sde.errors import BenchError

RUN = ("--device", "cpu", "--json", "--quiet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Twelve numbered classes of wide images, and a network of twelve classes of 32x32."""
    folder = tmp_path_factory.mktemp("place")
    generator = np.random.Generator(np.random.Philox(0))
    for label in range(12):
        path = folder / "wide" / "test" / str(label) / "x.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(generator.integers(0, 256, (36, 64), dtype=np.uint8)).save(path)
    save_digits_model(folder / "checkpoints" / "tiny.safetensors", classes=12)
    (folder / "s.yaml").write_text(
        "dataset: image-folder:wide\nresize: 33\ncrop: 32\nclass_order: text\nscore_draws: 2\nimages: 12\n"
        "perturbations: []\n"
    )
    return folder


@pytest.fixture
def here(place, monkeypatch, program):
    """Run the program in `place`; returns exit code, stdout and stderr."""
    monkeypatch.chdir(place)
    return program


def fingerprint(**options):
    return rb.load_dataset("image-folder:wide", **options).fingerprint


def test_a_suite_says_sizes_and_order_and_options_replace_them(here):
    """The YAML file's images are those of `load_dataset`; a size on the command line replaces all three."""
    code, out, err = here("run", "s.yaml", "tiny", *RUN)
    assert code == 0, err
    assert json.loads(out)[0]["fingerprint"] == fingerprint(resize=33, crop=32, class_order="text")
    code, out, err = here("run", "s.yaml", "tiny", "--crop", 32, "--class-order", "numeric", *RUN)
    assert code == 0, err
    assert json.loads(out)[0]["fingerprint"] == fingerprint(crop=32, class_order="numeric")
    code, out, err = here(
        "run", "s.yaml", "tiny", "--resize", 33, "--crop", 32, "--interpolation", "bicubic", *RUN
    )
    assert code == 0, err
    cubic = {"resize": 33, "crop": 32, "interpolation": "bicubic"}
    assert json.loads(out)[0]["fingerprint"] == fingerprint(**cubic, class_order="text")
    code, out, err = here("run", "s.yaml", "tiny", "--image-size", 32, *RUN)
    assert code == 0, err
    assert json.loads(out)[0]["fingerprint"] == fingerprint(image_size=32, class_order="text")


def test_a_study_takes_sizes_and_order(here):
    """The study of clean images is one of cropped images."""
    sizes = ("--resize", 33, "--crop", 32, "--class-order", "numeric", "--images", 12)
    code, _, err = here("study", "clean", "tiny", "--dataset", "image-folder:wide", *sizes, *RUN)
    assert code == 0, err
    wanted = {"resize": 33, "crop": 32, "class_order": "numeric"}
    study = pd.read_parquet("reports/study-clean/summary.parquet")
    python = rb.run("s.yaml", "tiny", **wanted, out="reports/python").summary
    for summary in (study, python):
        assert set(summary["fingerprint"]) == {fingerprint(**wanted)}


def test_a_wrong_size_in_a_suite_is_said_with_its_place(place, monkeypatch):
    """The line of the data set is named."""
    monkeypatch.chdir(place)
    (place / "bad.yaml").write_text("dataset: digits\ncrop: 8\nperturbations: []\n")
    with pytest.raises(BenchError, match=r"bad\.yaml.*`crop` is for image-folder:PATH"):
        rb.run("bad.yaml", "tiny")
    with pytest.raises(BenchError, match="`resize` must be at least 1, not 0"):
        rb.run("s.yaml", "tiny", resize=0)
    (place / "bad.yaml").write_text("dataset: digits\ncrop: none\nperturbations: []\n")
    with pytest.raises(BenchError, match=r"bad\.yaml, line 2.*crop"):
        rb.run("bad.yaml", "tiny")


def test_every_command_that_squeezes_also_crops():
    """--resize, --crop and --class-order are wherever --data-dir is."""
    commands = get_command(app).commands
    loading = {name for name, command in commands.items() if _has(command, "--data-dir")}
    assert {"attack", "corrupt", "run", "study", "versus", "stability", "certify", "train"} <= loading
    for name in loading:
        for option in ("--image-size", "--resize", "--crop", "--interpolation", "--class-order"):
            assert _has(commands[name], option), (name, option)


def _has(command, option):
    return any(option in parameter.opts for parameter in command.params)
