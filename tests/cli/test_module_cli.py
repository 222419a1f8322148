"""`--model` as a user types it."""

import json

import pandas as pd
import pytest
import torch
import yaml
from forked import sde_bench

CODE = """
import torch
from torch import nn


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.3 * torch.randn_like(x)


def plain():
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 10))


def noisy():
    return nn.Sequential(Noise(), *plain()).eval()


def softmax():
    return nn.Sequential(*plain(), nn.Softmax(1))
"""
FEW = ("--images", 12, "--score-draws", 4, "--json", "--quiet", "--device", "cpu")
ATTACK = ("attack", *FEW, "--steps", 2, "--eot-draws", 2, "--eps", 0.2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with code and weights."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "nets.py").write_text(CODE)
    torch.save({"1.weight": torch.ones(10, 3), "2.bias": torch.ones(10)}, folder / "other.pt")
    generator = torch.Generator().manual_seed(0)
    weights = {"2.weight": torch.randn(10, 64, generator=generator), "2.bias": torch.zeros(10)}
    torch.save(weights, folder / "trained.pt")
    return folder


def run(place, *arguments):
    process = sde_bench(*arguments, cwd=place)
    process.join(120)
    return process.exitcode, (place / "stdout.txt").read_text(), (place / "stderr.txt").read_text()


def test_a_module_is_attacked_and_its_run_resumes(place):
    """Clean, control and attack; notes on stderr; the same command computes nothing, other weights do."""
    command = (*ATTACK, "--model", "nets.py:plain", "--weights", "trained.pt", "--out", "run")
    code, out, err = run(place, *command)
    assert code == 0, err
    assert "trained was in train()" in err
    module = yaml.safe_load((place / "run" / "manifest.yaml").read_text())["modules"]["trained"]
    assert (module["model"], module["weights"], module["noise"]) == ("nets.py:plain", "trained.pt", "none")
    rows = json.loads(out)
    assert [row["perturbation"] for row in rows] == ["clean", "control", "pgd"]
    assert {row["checkpoint"] for row in rows} == {"trained"}
    assert {row["noise"] for row in rows} == {"none"}
    again = json.loads(run(place, *command)[1])
    assert [row["seconds"] for row in again] == [row["seconds"] for row in rows]
    normalised = json.loads(run(place, *command, "--normalize", "0.5,0.5", "--force")[1])
    assert {row["cell"] for row in normalised}.isdisjoint(row["cell"] for row in rows)


def test_noise_of_its_own_is_opaque_and_cannot_be_switched_off(place):
    """The control holds, the table says opaque, and --no-noise is an error."""
    code, out, err = run(place, *ATTACK, "--model", "nets:noisy")
    assert code == 0, err
    assert {(row["noise"], row["status"]) for row in json.loads(out)} == {("opaque", "ok")}
    assert "noise of its own (opaque)" in err
    code, _, err = run(place, *ATTACK, "--model", "nets:noisy", "--no-noise")
    assert (code, err.count("\n")) == (2, 1)


def test_modules_are_corrupted_and_audited(place):
    """The other commands take --model too."""
    fog = ("--corruptions", "fog", "--severity", 3, "--out", "corrupted")
    code, _, err = run(place, "corrupt", *fog, *FEW, "--model", "nets:plain")
    assert code == 0, err
    assert pd.read_csv(place / "corrupted" / "corruptions.csv")["checkpoint"].unique().tolist() == ["plain"]
    code, out, err = run(place, "audit", "--model", "nets:plain", *FEW, "--steps", 2)
    assert code in (0, 3, 4), err
    assert json.loads(out)["checkpoint"] == "plain"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nets:softmax"), "softmax returns probabilities"),
        (("--model", "nets:absent"), "unknown function in nets"),
        (("--model", "nets:plain", "--weights", "other.pt"), "missing: 2.weight; unexpected: 1.weight"),
        (("--model", "nets:plain", "--sigma", 1), "--sigma does not reach"),
        (("--weights", "other.pt"), "belong to --model"),
    ],
)
def test_mistakes_are_one_line(place, arguments, message):
    """Exit code 2 and a sentence."""
    code, _, err = run(place, *ATTACK, *arguments)
    assert code == 2
    assert message in err.splitlines()[-1]
