"""`sde-bench versus`, called in this process."""

import json

import pytest
import yaml
from builders import save_digits_model
from regression.worlds import changed, make_cell, make_side, write_run


@pytest.fixture
def sde_bench(tmp_path, monkeypatch, program):
    """Run the program in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return program


def test_a_run_is_compared_with_its_reference(sde_bench, tmp_path):
    """The sentence comes before the table; documents and the figure lie in the run's folder."""
    before, after = changed(200, 100, 40, 5)
    facts = {"solver": "euler", "solver_steps": 8}
    sde = make_cell(after, after * 16, checkpoint="a_$net", **facts)
    write_run(tmp_path / "reports" / "mine", make_side(make_cell(before, checkpoint="ode", **facts), sde))
    code, stdout, stderr = sde_bench("versus", "--run", "mine", "--reference", "ode")
    assert code == 0, stderr
    sentence, *_ = stdout.splitlines()
    assert sentence.startswith("a_$net is 17.5 points below the ODE under pgd linf 0.03 (")
    assert "one training of each" in stdout
    folder = tmp_path / "reports" / "mine"
    assert sentence.replace("a_$", "a\\_$") in (folder / "versus.md").read_text()
    assert r"a\_\$net" in (folder / "versus.tex").read_text()
    assert json.loads((folder / "versus.json").read_text())["reference"] == "ode"
    assert (folder / "figures" / "versus.svg").exists()
    code, stdout, _ = sde_bench("versus", "--run", folder, "--reference", "ode", "--json")
    assert json.loads(stdout)["answer"] == [sentence]
    code, _, stderr = sde_bench("report", folder)
    assert code == 0, stderr
    page = (folder / "index.html").read_text()
    findings = page[page.index('class="findings"') :]
    first = findings[findings.index("<li") : findings.index("</li>")]
    assert ">a_$net is 17.5 points below the ODE under pgd linf 0.03 (" in first
    assert "versus-table" in page


def test_missing_cells_are_run_and_found_again(sde_bench, tmp_path):
    """Checkpoints by name are attacked, stored, and not attacked again, even into another folder."""
    save_digits_model(tmp_path / "checkpoints" / "ode.safetensors", noise=())
    for kind in ("additive", "multiplicative"):
        save_digits_model(tmp_path / "checkpoints" / f"{kind}.safetensors", kind)
    small = ("--images", 6, "--steps", 1, "--eot-draws", 1, "--score-draws", 2, "--quiet", "--json")
    code, stdout, stderr = sde_bench("versus", "ode", *small)
    assert code == 0, stderr
    found = json.loads(stdout)
    assert {row["subject"] for row in found["rows"]} == {"additive", "multiplicative"}
    records = sorted((tmp_path / "reports").glob("*/records/*.parquet"))
    times = [path.stat().st_mtime_ns for path in records]
    code, again, _ = sde_bench("versus", "ode", *small)
    assert json.loads(again) == found
    assert [path.stat().st_mtime_ns for path in records] == times


def test_a_shipped_reference_is_compared_with_checkpoints_of_your_own(sde_bench, tmp_path):
    """A folder of checkpoints without the reference does not hide a shipped one of that name."""
    save_digits_model(tmp_path / "checkpoints" / "mine.safetensors", "additive")
    small = ("--images", 4, "--steps", 1, "--eot-draws", 1, "--score-draws", 2, "--quiet", "--json")
    code, stdout, stderr = sde_bench("versus", "digits-ode", *small)
    assert code == 0, stderr
    found = json.loads(stdout)
    assert (found["reference"], {row["subject"] for row in found["rows"]}) == ("digits-ode", {"mine"})


def test_options_of_the_attack_and_a_module_are_taken(sde_bench, tmp_path):
    """Restarts, a budget of passes and --set reach the attack; --model is compared with the reference."""
    save_digits_model(tmp_path / "checkpoints" / "ode.safetensors", noise=())
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))\n"
    )
    options = ("--images", 4, "--restarts", 2, "--budget", 8, "--set", "pgd.steps=4", "--score-draws", 2)
    code, stdout, stderr = sde_bench(
        "versus", "ode", "--model", "net.py:make", *options, "--out", "run", "--json"
    )
    assert code == 0, stderr
    assert {row["subject"] for row in json.loads(stdout)["rows"]} == {"make"}
    attacked = yaml.safe_load((tmp_path / "run" / "manifest.yaml").read_text())["cells"][-1]["parameters"]
    assert (attacked["steps"], attacked["restarts"], attacked["passes"]) == (4, 2, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name the reference"),
        (("--run", "mine"), "--run needs --reference"),
        (("ode", "--run", "mine"), "--run has its own networks"),
        (
            ("digits-ode", "digits-ode", "--images", 4),
            "digits-ode is the only network here; name one to compare with it",
        ),
    ],
)
def test_wrong_arguments_are_told_in_one_line(sde_bench, arguments, words):
    """A reference is needed, and a run has networks of its own."""
    code, _, stderr = sde_bench("versus", *arguments)
    assert code == 2
    assert words in stderr
    assert stderr.count("\n") == 1
