"""`sde-bench certify` as it is typed: what it prints, its exit codes, and what it refuses."""

import json

import pandas as pd
import pytest
from builders import save_digits_model

from robustbench_sde.evaluation import certify as evaluation
from robustbench_sde.storage.run_folder import RunFolder

FEW = ("--images", 4, "--select-draws", 20, "--quiet")


@pytest.fixture
def place(tmp_path, monkeypatch, request):
    """An empty folder with a tiny checkpoint and the shipped smoothed one, and the process in it."""
    save_digits_model(tmp_path / "tiny.safetensors", "additive", steps=2)
    shipped = request.config.rootpath / "checkpoints" / "digits-smoothed.safetensors"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / shipped.name).write_bytes(shipped.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_names_it_certifies_the_smoothed_checkpoint(program, place):
    """The table has a line for each radius; figures, tables and a manifest lie in the folder."""
    code, stdout, stderr = program("certify", *FEW, "--draws", 100, "--radius", "0,0.1", "--out", "run")
    assert (code, stderr) == (0, "")
    assert "digits · 4 images · vote · at most 100 draws · alpha 0.001 · seed 0" in stdout
    assert "digits-smoothed@0.25" in stdout
    assert "attacked" not in stdout
    names = {path.name for path in (place / "run").rglob("*")}
    assert {"certificates.parquet", "certificates.csv", "certified.svg", "manifest.yaml"} <= names
    assert RunFolder(place / "run").read_manifest()["complete"]
    assert (
        "1 of 1 report stored already"
        in program("certify", *FEW, "--draws", 100, "--radius", "0,0.1", "--out", "run")[1]
    )


def test_json_has_a_certificate_for_each_image(program, place):
    """The JSON is a list of reports with brackets and certificates."""
    code, stdout, _ = program(
        "certify", "tiny.safetensors", *FEW, "--draws", 30, "--smoothing", "0.1,0.2", "--json"
    )
    reports = json.loads(stdout)
    assert (code, [report["smoothing"] for report in reports]) == (0, [0.1, 0.2])
    assert [len(report["certificates"]) for report in reports] == [4, 4]


def test_a_planted_wrong_sigma_is_exit_code_4(program, place, monkeypatch):
    """Radii of four times the sigma of the noise: the attack contradicts them, the images are named."""
    asked = (
        "certify",
        *FEW,
        "--draws",
        300,
        "--radius",
        "0,1.4",
        "--all-draws",
        "--attack",
        "apgd-ce",
        "--steps",
        10,
    )
    asked += ("--eot-draws", 4, "--score-draws", 100)
    code, stdout, _ = program(*asked, "--out", "right")
    assert (code, "contradicted" in stdout) == (0, False)
    radius = evaluation.certified_radius
    monkeypatch.setattr(evaluation, "certified_radius", lambda p, sigma: radius(p, 4 * sigma))
    code, stdout, _ = program(*asked, "--out", "wrong")
    assert code == 4
    table = pd.read_parquet("wrong/certificates.parquet")
    assert table["contradictions"].iloc[1] > 0
    assert table["certified_accuracy"].iloc[1] > table["attacked_accuracy"].iloc[1]
    named = table["status"].iloc[0]
    assert named.startswith("invalid: ")
    assert " at 1.4" in named
    assert named in " ".join(stdout.split())
    assert program(*asked, "--out", "wrong")[0] == 4  # a stored report says it as well


def test_too_few_draws_to_prove_anything_abstain(program, place):
    """Nine draws cannot prove more than one half at alpha 0.001: every image abstains, and is wrong."""
    code, stdout, _ = program("certify", "tiny.safetensors", *FEW, "--draws", 9, "--out", "run")
    assert (code, "100.0 %" in stdout) == (0, True)
    table = pd.read_parquet("run/certificates.parquet")
    assert (table["abstained"] == 1).all()
    assert (table["certified_accuracy"] == 0).all()


REFUSED = [
    (("--rule", "single"), "--rule single has no certificate"),
    (("--smoothing", "0"), "--smoothing is 0"),
    (("--smoothing", "a"), "--smoothing 'a' is not a number"),
    (("--radius", "-1"), "--radius must name at least one radius"),
    (("--attack", "pgd", "--radius", "0"), "--radius has no value above 0"),
    (("--attack", "fixed"), "did you mean 'fixed-path'"),
    (("--attack", "pgd", "--score-draws", 1), "--score-draws is 1"),
    (("--alpha", "1"), "--alpha is 1"),
    (("--draws", "1"), "--draws is 1"),
    (("nothing",), "nothing"),
]


@pytest.mark.parametrize(("asked", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_certified_is_one_sentence_and_exit_code_2(program, place, asked, message):
    """Rules without a theorem, impossible numbers, and attacks that leave L2 are refused before any work."""
    code, stdout, stderr = program("certify", *asked, *FEW)
    assert (code, stdout) == (2, "")
    assert message in " ".join(stderr.split())


def test_a_foreign_deterministic_module_is_keyed(program, place):
    """--model takes anybody's network: noise on the image makes it random, keyed like all noise."""
    (place / "net.py").write_text(
        "from torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)).eval()\n"
    )
    code, *_ = program(
        "certify", "--model", "net.py:make", *FEW, "--draws", 20, "--radius", "0,0.1", "--out", "run"
    )
    assert code == 0
    assert list(pd.read_parquet("run/certificates.parquet")["noise"]) == ["keyed"] * 2
