"""A folder never holds two runs: another one is refused, or replaced as a whole with `--force`."""

import functools
import itertools
import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
from builders import save_digits_model
from forked import finished

from robustbench_sde.storage.run_folder import RunFolder

FEW = ("--images", 4, "--score-draws", 2, "--quiet")
ATTACK = ("attack", "one", *FEW, "--steps", 1, "--eot-draws", 1)
CERTIFY = ("certify", "one", "--images", 2, "--draws", 20, "--select-draws", 4, "--quiet")
AUDIT = ("audit", "one", "--images", 10, "--steps", 1, "--eot-draws", 1, "--score-draws", 2, "--quiet")
STABILITY = ("stability", "one", "--images", 2, "--paths", 1, "--steps", 1, "--quiet")
STUDY = ("study", "clean", "one", "--quiet")
SUITE = "images: 4\nscore_draws: 2\nperturbations:\n  - {corruption: fog, severity: [1, 2]}\n"

#: words that make a run and words that make another one, by command
OTHERS = {
    "attack": (ATTACK, (*ATTACK, "--eps", 0.1)),
    "corrupt": (
        ("corrupt", "one", *FEW, "--corruptions", "fog", "--severity", 1),
        ("corrupt", "one", *FEW, "--corruptions", "fog", "--severity", 2),
    ),
    "score": (
        ("score", "made.npz", "--checkpoint", "one", "--score-draws", 2, "--quiet"),
        ("score", "made.npz", "--checkpoint", "one", "--score-draws", 3, "--quiet"),
    ),
    "certify": ((*CERTIFY, "--radius", "0,0.1"), (*CERTIFY, "--radius", "0,0.2")),
    "versus": (("versus", *ATTACK[1:], "one", "two"), ("versus", *ATTACK[1:], "one", "two", "--seed", 1)),
    "study": ((*STUDY, "--images", 4), (*STUDY, "--images", 5)),
    "stability": (STABILITY, (*STABILITY, "--seed", 1)),
    "audit": (AUDIT, (*AUDIT, "--seed", 1)),
}


@pytest.fixture
def place(tmp_path, monkeypatch, digits):
    """A folder with two tiny checkpoints, a suite and a file of images, and the process in it."""
    for name, kind in (("one", "none"), ("two", "additive")):
        save_digits_model(tmp_path / "checkpoints" / f"{name}.safetensors", kind, steps=2)
    (tmp_path / "tiny.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    """The files of a folder, by name, without wall times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith(("records/", "examples/", "certificates/", ".")):
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("command", OTHERS)
def test_another_run_is_refused_and_replaced_by_force(program, place, command):
    """Another run in the folder is refused in one line and changes nothing; `--force` replaces it."""
    if command == "score":
        program(*ATTACK, "--save-images", "npz", "--out", "made")
        next((place / "made" / "images").glob("*.npz")).rename(place / "made.npz")
    first, second = OTHERS[command]
    assert program(*first, "--out", "run")[0] in (0, 3, 4)
    before = contents(place / "run")
    assert before
    code, out, error = program(*second, "--out", "run")
    assert (code, out) == (2, "")
    assert error.startswith("sde-bench: run holds ")
    assert error.endswith("give --force to replace it, or another --out\n") or "replace them" in error
    assert error.count("\n") == 1
    assert contents(place / "run") == before
    code, _, error = program(*second, "--out", "run", "--force")
    assert code in (0, 3, 4)
    assert "replace" in error
    assert program(*second, "--out", "new")[0] == code
    assert contents(place / "run").keys() == contents(place / "new").keys()
    assert program(*second, "--out", "run")[0] == code, "the same command goes on without --force"


def test_the_refusal_names_the_command_that_made_the_run(program, place):
    """The line has the number of cells and the command of the run in the folder, for every other command."""
    program(*ATTACK, "--out", "run")
    made = f"made by `sde-bench {' '.join(map(str, ATTACK))} --out run`"
    for other in (CERTIFY, ("corrupt", "one", *FEW, "--corruptions", "fog"), (*ATTACK, "--seed", 1)):
        code, _, error = program(*other, "--out", "run")
        assert code == 2
        assert error == (
            f"sde-bench: run holds another run (3 cells, {made}); "
            "give --force to replace it, or another --out\n"
        )


def test_a_run_with_more_cells_goes_on_and_its_old_page_is_removed(program, place):
    """More budgets or checkpoints go on in the folder; page and figures of the smaller run are removed."""
    program(*ATTACK, "--eps", "0.03,0.1", "--out", "run")
    program("report", "run")
    assert program(*ATTACK, "--eps", "0.03,0.1", "--out", "run")[0] == 0
    assert (place / "run" / "index.html").exists(), "equal tables keep their page"
    code, out, error = program(*ATTACK, "two", "--eps", "0.03,0.1", "--out", "run")
    assert (code, error) == (0, "")
    assert "4 of 8 cells stored already" in out
    assert not {"index.html", "glance.tex", "summary.tex"} & contents(place / "run").keys()
    assert set(RunFolder(place / "run").read_summary()["checkpoint"]) == {"one", "two"}


def test_a_suite_replaces_its_own_earlier_run_and_says_so(program, place):
    """Fewer images remove page, figures and tables of the earlier run; the cells of both stay stored."""
    suite = ("run", "tiny.yaml", "one", "--quiet")
    program(*suite)
    program("report", "tiny")
    code, _, error = program(*suite, "--images", 3)
    assert code == 0
    assert error.startswith(
        "sde-bench: replaces the run in reports/tiny (3 cells, made by `sde-bench run tiny"
    )
    left = contents(place / "reports" / "tiny")
    assert not {"index.html", "glance.tex", "summary.tex"} & left.keys()
    assert set(RunFolder(place / "reports" / "tiny").read_summary()["images"]) == {3}
    assert set(pd.read_csv(place / "reports" / "tiny" / "corruptions.csv")["images"].dropna()) <= {3}
    code, out, error = program(*suite)
    assert code == 0
    assert "3 of 3 cells stored already" in out
    assert "replaces" in error


def test_a_suite_does_not_replace_what_another_command_has_written(program, place):
    """The folder of a suite that `attack` has taken, and one that `--name` names, are refused."""
    program(*ATTACK, "--out", "reports/tiny")
    code, _, error = program("run", "tiny.yaml", "one", "--quiet")
    assert code == 2
    assert "reports/tiny holds another run (3 cells, made by `sde-bench attack" in error
    assert error.endswith("give --force to replace it, or another --name\n")
    assert program("run", "tiny.yaml", "one", "--quiet", "--name", "mine")[0] == 0
    assert program("run", "tiny.yaml", "one", "--quiet", "--name", "mine", "--images", 3)[0] == 2
    assert program("run", "tiny.yaml", "one", "--quiet", "--name", "mine", "--images", 3, "--force")[0] == 0


def test_audits_of_a_checkpoint_that_left_are_removed(program, place):
    """`--force` removes audits of other checkpoints, and keeps those of checkpoints of the new run."""
    program(*ATTACK, "two", "--out", "run")
    for name in ("one", "two"):
        program("audit", name, *AUDIT[2:], "--out", "run")
    assert program(*ATTACK, "--seed", 1, "--out", "run", "--force")[0] == 0
    assert {path.name for path in (place / "run" / "audits").glob("*")} == {"one.json"}


def test_images_of_another_run_are_removed(program, place):
    """Saved images of the replaced run do not stay beside those of the new one."""
    program(*ATTACK, "--save-images", "npz", "--out", "run")
    program(*ATTACK, "--save-images", "npz", "--eps", 0.1, "--out", "run", "--force")
    (left,) = (place / "run" / "images").iterdir()
    assert "0.1" in left.name


def _killed_at(number):
    """Kill this process at a given removal of a file in the folder of the run."""
    counter, unlink = itertools.count(), Path.unlink

    def removing(path, missing_ok=False):
        if path.name != ".lock" and not path.name.endswith(".tmp") and next(counter) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(path, missing_ok=missing_ok)

    Path.unlink = removing


def test_a_kill_while_a_run_is_replaced_leaves_one_run(place):
    """Killed at any removed file, the folder shows one run or none; either command ends in its own."""
    old, new = ATTACK, (*ATTACK, "--seed", 1)
    assert finished(*old, "--out", "old", cwd=place).code == 0
    assert finished("report", "old", cwd=place).code == 0
    rows = RunFolder(place / "old").read_summary()["cell"].tolist()
    kills, ended = 0, None
    for number in itertools.count(1, 6):
        run = place / f"run-{number}"
        shutil.copytree(place / "old", run)
        killed = functools.partial(_killed_at, number)
        ended = finished(*new, "--out", run, "--force", cwd=place, before=killed).code
        if ended == 0:
            break
        kills += ended == -9
        if (run / "summary.parquet").exists():
            shown = RunFolder(run).read_summary()["cell"].tolist()
            assert shown == rows or not set(shown) & set(rows)
        assert not (run / "manifest.yaml").exists()
        words = new if kills % 2 else old
        assert finished(*words, "--out", run, "--force", cwd=place).code == 0
        assert (RunFolder(run).read_summary()["cell"].tolist() == rows) == (kills % 2 == 0)
        assert RunFolder(run).read_manifest()["complete"]
        assert "index.html" not in contents(run)
    assert kills > 2


@pytest.mark.parametrize("name", ["attack", "study", "audit", "report"])
def test_a_file_in_the_place_of_a_folder_is_told(place, program, name):
    """`--out FILE` says that it must be a folder, and leaves the file as it is."""
    Path("b.json").write_text("mine")
    words = ("report", "run") if name == "report" else OTHERS[name][0]
    if name == "report":
        assert program(*ATTACK, "--out", "run")[0] == 0
    code, _, error = program(*words, "--out", "b.json")
    assert code == 2
    assert "b.json is a file" in error
    assert "folder" in error
    assert error.count("\n") == 1
    assert Path("b.json").read_text() == "mine"
