"""Two checkpoints of one name: every command tells them apart by their folders."""

import json

import pytest
import yaml
from builders import save_digits_model

from robustbench_sde.storage.provenance import file_sha256

FEW = ("--images", 12, "--quiet")
ATTACK = ("--eps", 0.1, "--steps", 1, "--eot-draws", 1, "--score-draws", 2)

COMMANDS = {
    "attack": (*FEW, *ATTACK),
    "corrupt": (*FEW, "--corruptions", "fog", "--severity", 1, "--score-draws", 2),
    "versus": (*FEW, *ATTACK),
    "stability": (*FEW, *ATTACK, "--paths", 1),
    "certify": (*FEW, "--draws", 20, "--select-draws", 4),
}


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two files called m in the folders a and b, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for folder, kind in (("a", "none"), ("b", "multiplicative")):
        (tmp_path / folder).mkdir()
        save_digits_model(tmp_path / folder / "m.safetensors", kind)
    return "a/m.safetensors", "b/m.safetensors"


@pytest.mark.parametrize("command", COMMANDS)
def test_they_are_told_apart(program, two, command, tmp_path):
    """Tables, manifest and files of reports have a/m and b/m, each with its own hash."""
    code, out, error = program(command, *two, *COMMANDS[command], "--out", "reports/run")
    assert code == 0, error
    assert "a/m" in out
    assert "b/m" in out
    hashes = {name: file_sha256(tmp_path / f"{name}.safetensors") for name in ("a/m", "b/m")}
    if command == "stability":
        found = sorted((tmp_path / "reports" / "run").rglob("m*.json"))
        told = [json.loads(path.read_text()) for path in found]
        names = {one["checkpoint"]: one["sha256"] for one in told}
    else:
        listed = yaml.safe_load((tmp_path / "reports/run/manifest.yaml").read_text())["checkpoints"]
        names = {name.removesuffix("@0.25"): sha256 for name, sha256 in listed.items()}
    assert names == hashes


def test_suites_studies_scores_and_what_reads_them(program, two, tmp_path):
    """`run`, `study`, `score`, and then `show`, `compare` and `report` use the same names."""
    hashes = {name: file_sha256(tmp_path / f"{name}.safetensors") for name in ("a/m", "b/m")}
    code, _, error = program("attack", *two, *FEW, *ATTACK, "--save-images", "npz", "--out", "reports/made")
    assert code == 0, error
    images = sorted(map(str, (tmp_path / "reports/made/images").glob("*")))
    assert len(images) == 2
    scored = ("score", images[0], "--checkpoint", two[0], "--checkpoint", two[1], "--score-draws", 2)
    for words in (
        (*scored, "--quiet", "--out", "reports/scored"),
        ("study", "clean", *two, *FEW),
        ("run", "study/clean", *two, *FEW, "--name", "suite"),
    ):
        code, out, error = program(*words)
        assert code == 0, error
        assert "a/m" in out
        assert "b/m" in out
    for run in ("made", "scored", "study-clean", "suite"):
        manifest = yaml.safe_load((tmp_path / "reports" / run / "manifest.yaml").read_text())
        assert manifest["checkpoints"] == hashes
        for words in (("show", run), ("compare", run, run), ("report", run)):
            code, out, error = program(*words)
            assert code in (0, 3), (words, error)
            assert "a/m" in out or words[0] == "report"


def test_audits_of_two_do_not_replace_each_other(program, two, tmp_path):
    """Audits of namesakes have folders of their own, and in the folder of a run the names of the run."""
    few = ("--images", 10, "--quiet", "--steps", 1, "--eot-draws", 1, "--score-draws", 1)
    for path in two:
        program("audit", path, *few)
    found = {path.parent.parent.name for path in (tmp_path / "reports").rglob("audits/*.json")}
    assert found == {"audit-m", "audit-b-m"}
    program("attack", *two, *FEW, *ATTACK, "--out", "reports/run")
    for path in two:
        program("audit", path, *few, "--out", "reports/run")
    audits = tmp_path / "reports" / "run" / "audits"
    names = {json.loads(path.read_text())["checkpoint"] for path in audits.rglob("*.json")}
    assert names == {"a/m", "b/m"}
