"""The fixture `robustness_gate` in tests of somebody else."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from builders import save_digits_model
from forked import finished
from regression.worlds import changed, make_cell, make_side, write_run

TESTS = """
def test_regression(robustness_gate):
    robustness_gate("worse")

def test_equal(robustness_gate):
    assert robustness_gate("before").counts == "1 ok"

def test_few(robustness_gate):
    robustness_gate("few")

def test_few_allowed(robustness_gate):
    assert robustness_gate("few", allow_inconclusive=True).exit_code == 3

def test_missing(robustness_gate):
    robustness_gate("before", baseline="nowhere.json")

def test_empty(robustness_gate): ...

def test_own_failure(robustness_gate):
    assert 1 == 2, "fails by itself, and the gate is not asked"
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The text of pytest on the tests above, in a folder with runs and with the files of `gate init`."""
    folder = tmp_path_factory.mktemp("theirs")
    for name, world in {
        "before": (360, 200, 0, 0),
        "worse": (360, 200, 30, 5),
        "few": (20, 20, 0, 0),
    }.items():
        write_run(folder / name, make_side(make_cell(changed(*world)[1], checkpoint="net")))
    save_digits_model(folder / "checkpoints" / "mine.safetensors", "none", steps=1)
    ended = finished("gate", "init", "--images", 200, "--quiet", "--max-drop", 0.05, cwd=folder)
    assert ended.code == 0, ended.stderr
    (folder / "test_theirs.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    baseline = "robustness_baseline=before"
    asked = _pytest(folder, "-k", "not empty", "-o", baseline)
    shutil.rmtree(folder / "reports")  # the suite is run again
    empty = _pytest(folder, "-k", "empty")
    assert (folder / "reports" / "gate" / "summary.parquet").exists()
    assert "\ncommand: python -m pytest " in (folder / "reports" / "gate" / "manifest.yaml").read_text()
    return asked, empty


def _pytest(folder, *options):
    installed = any(point.name == "robustbench_sde" for point in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "robustbench_sde.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *plugin, *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["COLUMNS"] = "300"
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    return ended.stdout + ended.stderr


def test_a_regression_fails_the_test_with_the_sentence_of_the_gate(text):
    """The test fails in its own phase, and the text names verdict, counts and the worst cell."""
    asked, _ = text
    sentence = "robustness gate: regression: 1 regressed; net pgd linf eps=0.03: accuracy lost 6.9"
    assert f"FAILED test_theirs.py::test_regression - Failed: {sentence}" in asked
    assert "ERROR" not in asked


def test_an_equal_run_passes_and_returns_the_comparison(text):
    """The fixture returns the comparison for further checks."""
    assert "PASSED test_theirs.py::test_equal" in text[0]


def test_too_few_images_fail_unless_that_is_allowed(text):
    """An inconclusive comparison fails with the line about images; `allow_inconclusive` lets it pass."""
    asked, _ = text
    assert (
        "FAILED test_theirs.py::test_few - Failed: robustness gate: inconclusive: 1 inconclusive; " in asked
    )
    assert "the run has 20 images and the baseline 360: `sde-bench run smoke --images 360`" in asked
    assert "PASSED test_theirs.py::test_few_allowed" in asked


def test_a_missing_baseline_fails_with_the_error(text):
    """An error of input is one line, as on the command line."""
    wanted = "FAILED test_theirs.py::test_missing - Failed: robustness gate: nowhere.json does not exist"
    assert wanted in text[0]


def test_a_test_with_an_empty_body_asks_the_gate(text):
    """A test with the body ``...`` runs the suite of `gate init` and compares it with the baseline."""
    assert "PASSED test_theirs.py::test_empty" in text[1]


def test_a_test_that_fails_by_itself_keeps_its_failure(text):
    """The gate is not asked after a failure."""
    assert "test_own_failure - AssertionError: fails by itself" in text[0]


def test_the_plug_in_imports_nothing_heavy():
    """Pytest imports it at every start: neither torch, pandas, numpy nor pydantic."""
    code = (
        "import sys, robustbench_sde.pytest_plugin\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pydantic', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
