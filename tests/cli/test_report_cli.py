"""`sde-bench report`, called in this process on runs that `sde-bench` has made."""

import json
import os

import pytest
from builders import make_model

from robustbench_sde.data import load_dataset
from robustbench_sde.models.checkpoint import save_checkpoint
from robustbench_sde.models.header import CheckpointHeader, DatasetRef


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small untrained checkpoint of the digits' shape."""
    folder = tmp_path_factory.mktemp("place")
    data = load_dataset("digits")
    dataset = DatasetRef(name="digits", fingerprint=data.fingerprint, class_names=data.class_names)
    model = make_model("additive", height=32, width=32, classes=10, stem_strides=(4, 2))
    header = CheckpointHeader(model=model.spec, dataset=dataset)
    save_checkpoint(folder / "checkpoints" / "tiny.safetensors", model, header)
    return folder


@pytest.fixture
def sde_bench(place, monkeypatch, program):
    """Run the program in `place`; returns exit code, stdout and stderr."""
    monkeypatch.chdir(place)
    return program


def test_no_run_is_one_line(sde_bench):
    """Nothing in reports/, a folder that is none, or one without a run."""
    for arguments, message in (
        ((), "reports/ holds no run"),
        (("nowhere",), "nowhere does not exist"),
        (("checkpoints",), "checkpoints is not the folder of a run"),
        (("checkpoints/tiny.safetensors",), "is a file, and not the folder of a run"),
    ):
        code, stdout, stderr = sde_bench("report", *arguments)
        assert (code, stdout) == (2, "")
        assert message in stderr
        assert stderr.count("\n") == 1


def test_report_of_an_attack_and_of_corruptions(sde_bench, place, tmp_path):
    """Into the run's folder or another; without a name the newest run; the page's path is the last line."""
    attack = ("attack", "--steps", 2, "--images", 6, "--score-draws", 3, "-q", "--out", "reports/first")
    assert sde_bench(*attack, "--eps", "0.03,0.06")[0] == 0
    corrupt = ("corrupt", "--images", 6, "--score-draws", 2, "-q", "--out", "reports/second")
    assert sde_bench(*corrupt, "--corruptions", "fog", "--severity", "1,5")[0] == 0
    os.utime(place / "reports" / "first" / "summary.parquet", (1, 1))

    code, stdout, stderr = sde_bench("report")
    assert (code, stderr) == (0, "")
    assert stdout.splitlines()[-1] == "reports/second/index.html"
    assert "fog" in (place / "reports" / "second" / "index.html").read_text()

    code, stdout, _ = sde_bench("report", "reports/first", "--out", tmp_path / "there", "--json")
    written = json.loads(stdout)
    assert code == 0
    there = tmp_path / "there"
    figures = (
        "accuracy-eps-linf-pgd",
        "accuracy-tries-clean",
        "accuracy-tries-pgd-linf-0.03-7.65-255",
        "accuracy-tries-pgd-linf-0.06-15.3-255",
    )
    expected = {f"figures/{name}.{ending}" for name in figures for ending in ("png", "svg")}
    expected |= {"index.html", "summary.md", "glance.tex", "summary.tex"}
    assert {path.relative_to(there).as_posix() for path in there.rglob("*.*")} == expected
    assert len(written) == len(expected)
    assert written[-1] == str(tmp_path / "there" / "index.html")
    assert not (place / "reports" / "first" / "index.html").exists()
    page = (tmp_path / "there" / "index.html").read_text()
    assert "<h1>first</h1>" in page
    assert "data:image/png;base64," in page  # the run has stored examples


def test_a_place_that_cannot_be_written_is_one_line(sde_bench, place, tmp_path):
    """A file where the folder should be."""
    sde_bench("attack", "--steps", 1, "--images", 4, "--score-draws", 1, "-q", "--out", "reports/third")
    (tmp_path / "file").write_text("")
    code, stdout, stderr = sde_bench("report", "reports/third", "--out", tmp_path / "file")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("sde-bench: cannot write")
    assert stderr.count("\n") == 1
