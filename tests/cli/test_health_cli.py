"""Gradients that an attack cannot follow, as a user sees them: table, exit codes, gates and baselines."""

import json

import pytest
from builders import save_dead_model

CODE = """
from pathlib import Path

import robustbench_sde as rb
from torch import nn


class Centroids(nn.Module):
    \"\"\"Logits by the distance to the mean image of each class.\"\"\"

    def __init__(self, change):
        super().__init__()
        data = rb.load_dataset("digits", split="train", images=400)
        pixels = data.images.float().flatten(1) / 255
        means = [pixels[data.labels == label].mean(0) for label in range(10)]
        self.layer, self.change = nn.Linear(1024, 10), change
        for label, mean in enumerate(means):
            self.layer.weight.data[label] = mean / 4
            self.layer.bias.data[label] = -mean.square().sum() / 8

    def forward(self, x):
        return self.layer(self.change(x).flatten(1))


def healthy():
    return Centroids(lambda x: x)


def rounded():
    return Centroids(lambda x: (x * 8).round() / 8 + 0 * x)


def net():
    return rounded() if Path("broken").exists() else healthy()


def root():
    return Centroids(lambda x: x.sqrt().pow(2))


def saturated():
    net = healthy()
    net.layer.weight.data *= 1000
    net.layer.bias.data *= 1000
    return net
"""
FEW = ("--images", 24, "--score-draws", 1, "--device", "cpu", "--quiet")
SIGNS = ("gradients_zero", "gradients_not_finite", "gradients_saturated")


@pytest.fixture
def sde_bench(tmp_path, monkeypatch, program):
    """Run the program in a folder with networks; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "nets.py").write_text(CODE)
    return program


def attack(sde_bench, net, *options):
    """Attack one of the networks in a few steps."""
    return sde_bench("attack", "--model", f"nets.py:{net}", *FEW, "--eps", 0.1, "--steps", 3, *options)


@pytest.mark.parametrize(("net", "sign"), [("rounded", "gradients_zero"), ("root", "gradients_not_finite")])
def test_a_row_whose_gradients_cannot_be_followed_is_suspect_and_ends_with_code_4(sde_bench, net, sign):
    """The table marks it, a line below gives the reason; an attack without gradients beside it is ok."""
    code, stdout, _ = attack(sde_bench, net, "--attack", "pgd,square")
    assert code == 4
    assert "bad gradients" in stdout
    assert "pgd: suspect: gradients of " in stdout.replace("\n", " ")
    assert "suspect: 1 of 4" in stdout
    code, stdout, _ = attack(sde_bench, net, "--attack", "pgd,square", "--json")
    assert code == 4
    rows = {row["perturbation"]: row for row in json.loads(stdout)}
    assert rows["pgd"][sign] > 0.8
    assert rows["pgd"]["status"].startswith("suspect: ")
    assert [rows[name]["status"] for name in ("clean", "control", "square")] == ["ok"] * 3
    assert all(rows[name][sign] is None for name in ("clean", "control", "square"))


@pytest.mark.parametrize("net", ["healthy", "saturated"])
def test_healthy_and_saturated_networks_are_ok(sde_bench, net):
    """Saturation is counted and mended, and is no reason; both networks leave the same images."""
    code, stdout, stderr = attack(sde_bench, net, "--attack", "pgd", "--json")
    assert code == 0, stderr
    row = json.loads(stdout)[-1]
    assert row["status"] == "ok"
    assert (row["gradients_saturated"] > 0.5) == (net == "saturated")
    assert (row["gradients_zero"], row["gradients_not_finite"]) == (0, 0)
    _, table, _ = attack(sde_bench, net, "--attack", "pgd")
    assert ("bad gradients" in table) == (net == "saturated")
    other = "saturated" if net == "healthy" else "healthy"
    _, stdout, _ = attack(sde_bench, other, "--attack", "pgd", "--json")
    assert abs(json.loads(stdout)[-1]["accuracy"] - row["accuracy"]) <= 1 / 24 + 1e-9


def test_no_baseline_is_saved_of_a_suspect_run_and_the_gate_ends_with_code_4(sde_bench, tmp_path):
    """Neither as the run that is judged nor as what it is compared with."""
    assert attack(sde_bench, "net", "--attack", "pgd", "--out", "good")[0] == 0
    (tmp_path / "broken").touch()
    assert attack(sde_bench, "net", "--attack", "pgd", "--out", "bad")[0] == 4
    code, _, stderr = sde_bench("baseline", "save", "bad", "b.json")
    assert code in (2, 4)
    assert "suspect" in stderr
    assert not (tmp_path / "b.json").exists()
    assert sde_bench("baseline", "save", "good", "good.json")[0] == 0
    for before, after in (("good", "bad"), ("good.json", "bad"), ("bad", "bad")):
        code, stdout, stderr = sde_bench("compare", before, after)
        assert code == 4, (before, after, stdout, stderr)
        assert "suspect" in stdout + stderr


def test_every_cell_of_a_suite_is_counted_and_the_run_ends_with_code_4(sde_bench, tmp_path):
    """The ensemble is suspect by its members with gradients; `show` and the page of `report` say so too."""
    save_dead_model(tmp_path / "dead.safetensors", "none")
    (tmp_path / "s.yaml").write_text(
        "images: 8\nscore_draws: 1\ncheckpoints: [dead.safetensors]\nperturbations:\n"
        "  - {attack: auto, eps: 0.1, steps: 2, queries_per_step: 1}\n"
        "  - {attack: [fmn, apgd-ce], norm: linf, eps: 0.1, steps: 3}\n  - {corruption: fog, severity: 1}\n"
    )
    code, stdout, stderr = sde_bench("run", "s.yaml", "--quiet", "--device", "cpu")
    assert code == 4, stderr
    assert "suspect: 3 of " in stdout
    _, stdout, _ = sde_bench("show", "reports/s")
    assert stdout.count("suspect: gradients of") == 3
    assert sde_bench("report", "reports/s")[0] == 0
    assert "suspect" in (tmp_path / "reports" / "s" / "index.html").read_text()
