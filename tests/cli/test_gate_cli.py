"""`sde-bench gate init`: what it writes works as it is, step by step."""

import json
import os
import shutil
import subprocess

import pytest
import yaml
from builders import save_digits_model
from served import served

from robustbench_sde.regression.scaffold import workflow_text

INIT = ("gate", "init", "--images", 200, "--eps", "8/255", "--quiet")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository with one tiny checkpoint, and the process in it."""
    save_digits_model(tmp_path / "checkpoints" / "mine.safetensors", "none", steps=1)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path


def steps(text):
    """The commands of a workflow or an action, by name of the step."""
    content = yaml.safe_load(text)
    found = content["runs"]["steps"] if "runs" in content else content["jobs"]["gate"]["steps"]
    return {step.get("name", step.get("uses")): step.get("run", "") for step in found}


def shell(place, command, **variables):
    """Run a step as GitHub does, `sde-bench` being this package."""
    programs = place.parent / "bin"
    programs.mkdir(exist_ok=True)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with served(programs):
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            cwd=place, env=os.environ | variables | {"PATH": path},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip


def test_it_writes_every_file_once(program, place):
    """All five files are written; a second call is refused without --force."""
    (place / ".gitignore").write_text("*.pyc")
    code, out, error = program(*INIT, "--install", "git+https://example.org/x/y@abc")
    assert (code, error) == (0, "")
    names = ["robustness/suite.yaml", "robustness/policy.yaml", ".github/workflows/robustness.yml"]
    assert out.splitlines()[:5] == [*names, ".gitignore", "robustness/baseline.json"]
    assert out.splitlines()[5].startswith("baseline: 4 cells, ")
    assert "commit checkpoints/mine.safetensors" in out
    assert (place / ".gitignore").read_text() == "*.pyc\nreports/\n"
    suite = yaml.safe_load((place / "robustness" / "suite.yaml").read_text())
    assert suite["checkpoints"] == ["checkpoints/mine.safetensors"]
    assert suite["perturbations"][0]["eps"] == "8/255"
    workflow = (place / ".github" / "workflows" / "robustness.yml").read_text()
    assert 'pip install "git+https://example.org/x/y@abc"' in workflow
    assert "https://download.pytorch.org/whl/cpu" in workflow
    code, _, error = program(*INIT)
    assert code == 2
    assert error.endswith("exists; give --force to replace the files of the gate\n")
    code, out, _ = program(*INIT, "--force", "--json", "--max-drop", 0.05)
    assert (code, json.loads(out)["cells"]) == (0, 4)
    assert (place / ".gitignore").read_text() == "*.pyc\nreports/\n"
    assert "max_drop: 0.05" in (place / "robustness" / "policy.yaml").read_text()


def test_a_data_set_that_is_not_there_leaves_no_file(program, place):
    """One line names it; the same command with the right name needs no --force."""
    before = set(place.iterdir())
    code, out, error = program(*INIT, "checkpoints/mine.safetensors", "--dataset", "nowhere")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "nowhere" in error
    assert set(place.iterdir()) == before


def test_it_warns_of_files_that_git_ignores(program, place):
    """A checkpoint that .gitignore names would be missing in the workflow."""
    (place / ".gitignore").write_text("checkpoints/\n")
    code, _, error = program("gate", "init", "--images", 20, "--max-drop", 0.2, "--quiet")
    assert code == 0
    assert error == "sde-bench: git ignores checkpoints/mine.safetensors, which the workflow needs\n"


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("git+https://github.com/OWNER/robustbench-sde@0123abc", "replace OWNER in "),
        ("git+https://github.com/OWNER/robustbench-sde@REVISION", "replace OWNER and REVISION in "),
        ("robustbench-sde==1.0.0", None),
    ],
)
def test_it_asks_for_what_the_workflow_lacks(monkeypatch, program, place, package, words):
    """Only what is to be filled in is named."""
    monkeypatch.setattr("robustbench_sde.api.gate.requirement", lambda: package)
    _, out, _ = program("gate", "init", "--images", 20, "--max-drop", 0.2, "--quiet")
    assert ("replace" in out) == (words is not None)
    assert words is None or words in out


def test_the_steps_of_the_workflow_run_in_a_fresh_clone(program, place):
    """Measure and compare end with 0 in a clone, and not after the checkpoint has become another network."""
    assert program(*INIT)[0] == 0
    for words in (
        ("add", "-A"),
        ("-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "gate"),
        ("clone", "-q", ".", "../clone"),
    ):
        subprocess.run(["git", *words], cwd=place, check=True)
    clone = place.parent / "clone"
    found = steps((clone / ".github" / "workflows" / "robustness.yml").read_text())
    page = str(place.parent / "page.md")
    for step in ("Measure", "Compare with the baseline"):
        ended = shell(clone, found[step], GITHUB_STEP_SUMMARY=page)
        assert ended.returncode == 0, ended.stderr
    assert {path.name for path in (clone / "reports").iterdir()} == {
        "gate", "comment.md", "badge.json", "gate.xml",
    }  # fmt: skip
    other = save_digits_model(place / "other.safetensors", "none", steps=1, features=16)
    shutil.copy(other, clone / "checkpoints" / "mine.safetensors")
    assert shell(clone, found["Measure"]).returncode == 0
    ended = shell(clone, found["Compare with the baseline"], GITHUB_STEP_SUMMARY=page)
    assert ended.returncode in (1, 3), ended.stderr
    assert (clone / "reports" / "comment.md").read_text().startswith("<!-- sde-bench gate -->\n### Robust")


def test_the_action_takes_its_inputs_from_the_environment(request, program, place):
    """No input is pasted into a script, and the steps of the action run with the files of `gate init`."""
    text = (request.config.rootpath / "action.yml").read_text()
    found = steps(text)
    assert not [run for run in found.values() if "${{" in run]
    assert program(*INIT)[0] == 0
    inputs = {name: str(entry["default"]) for name, entry in yaml.safe_load(text)["inputs"].items()}
    output = place / "output.txt"
    ended = shell(place, found["Measure"], SUITE=inputs["suite"], OPTIONS=inputs["run-options"])
    assert ended.returncode == 0, ended.stderr
    ended = shell(
        place,
        found["Compare with the baseline"],
        BASELINE=inputs["baseline"],
        POLICY=inputs["policy"],
        GITHUB_OUTPUT=str(output),
        GITHUB_STEP_SUMMARY=str(place / "page.md"),
    )
    assert ended.returncode == 0, ended.stderr
    assert output.read_text() == "verdict=ok\n"


def test_a_data_set_that_is_downloaded_is_cached():
    """The workflow downloads other data sets once, and keeps them by name."""
    text = workflow_text("x", dataset="cifar10", data_dir=None)
    assert "key: sde-bench-data-cifar10" in text
    assert "--quiet --download" in text
    assert yaml.safe_load(text)["jobs"]["gate"]["steps"][2]["with"]["path"] == "~/.cache/sde-bench-data"
    assert "actions/cache" not in workflow_text("x", dataset="digits", data_dir=None)


def test_too_few_images_for_the_limit_are_told(program, place):
    """A gate that no unchanged network can pass says so, with the images and the limit that would do."""
    code, _, error = program(*INIT[:2], "--images", 60, "--quiet", "--install", "x")
    assert code == 0
    assert error == (
        "sde-bench: 60 images, none of them changed, exclude a drop of 6.0 points, not of 2: this gate will "
        "call every run inconclusive; take 189 images or more, or a --max-drop of 0.061\n"
    )
    compare = ("compare", "robustness/baseline.json", "reports/gate", "--max-drop")
    assert [program(*compare, limit)[0] for limit in (0.02, 0.061)] == [3, 0]
