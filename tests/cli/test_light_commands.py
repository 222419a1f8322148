"""What only reads what is stored, or names what there is, does not wait for torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import ones

from robustbench_sde.errors import BenchError
from robustbench_sde.models.header import KEY, read_header
from robustbench_sde.runs.suite.suite import Suite
from robustbench_sde.shipped import CHECKPOINTS, SUITES, shipped_files
from robustbench_sde.storage.tensors import read_metadata, read_tensors

_RUN = """
import sys
from robustbench_sde.__main__ import main
sys.argv[0] = "sde-bench"
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("heavy:", sorted({"torch", "torchvision", "matplotlib", "scipy"} & set(sys.modules)))
"""


def _run(*words: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words], capture_output=True, text=True, cwd=folder, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "words",
    [
        ("show", "digits-multiplicative"),
        ("show", "smoke"),
        ("list", "checkpoints"),
        ("list", "runs"),
        ("list", "suites"),
        ("list", "attacks"),
        ("list", "presets"),
    ],
    ids=" ".join,
)
def test_torch_is_not_imported_to_show_or_list_what_is_stored(words: tuple[str, ...], tmp_path: Path) -> None:
    """`show CHECKPOINT`, `show SUITE` and `list` leave torch, scipy and matplotlib alone."""
    *shown, heavy = _run(*words, folder=tmp_path)
    assert shown or words[1] == "runs"
    assert heavy == "heavy: []"


def test_torch_is_not_imported_to_compare_two_runs(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`compare` reads what is stored, and saves the second that torch takes."""
    baseline = str(request.config.rootpath / "reports" / "baseline-digits.json")
    *shown, heavy = _run("compare", baseline, baseline, folder=tmp_path)
    assert shown[0].startswith("verdict: ok")
    assert "torch" not in heavy


@pytest.mark.parametrize("name", sorted(shipped_files(SUITES)))
def test_a_shipped_suite_is_shown_as_a_run_reads_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`show SUITE` prints what `Suite.read`, which checks attacks as well, reads of a shipped suite."""
    from robustbench_sde.cli.show import show_command

    monkeypatch.chdir(tmp_path)
    show_command(name, json=True)
    assert json.loads(capsys.readouterr().out) == Suite.read(name).spec.model_dump(mode="json")


def _message(function: object, path: Path) -> str:
    assert callable(function)
    with pytest.raises(BenchError) as failure:
        function(path)
    return str(failure.value)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 30_000])
def test_a_truncated_file_has_one_message_with_and_without_torch(kept: int, tmp_path: Path) -> None:
    """Reading the metadata of a truncated checkpoint raises what reading its tensors raises."""
    path = tmp_path / "cut.safetensors"
    path.write_bytes((CHECKPOINTS / "digits-ode.safetensors").read_bytes()[:kept])
    assert _message(read_metadata, path) == _message(read_tensors, path)
    assert "is not a whole safetensors file" in _message(read_header, path)


def test_a_header_of_a_network_that_cannot_be_is_refused_without_torch(tmp_path: Path) -> None:
    """The rules of architectures, noise and solvers hold for headers that are only shown."""
    header = read_header(CHECKPOINTS / "digits-multiplicative.safetensors").model_dump(mode="json")
    header["model"]["solver"] = "rk4"
    path = tmp_path / "odd.safetensors"
    save_file({"w": ones(1)}, path, metadata={KEY: json.dumps(header)})
    assert "solver rk4 solves ODEs only and does not take multiplicative noise" in _message(read_header, path)


def test_lines_in_a_pipe_end_without_blanks(tmp_path: Path) -> None:
    """Rich fills the lines of a table with blanks; none of them reaches a file."""
    for words in (("show", "digits-ode"), ("list", "attacks"), ("list", "checkpoints")):
        lines = _run(*words, folder=tmp_path)
        assert len(lines) > 3
        assert [line for line in lines if line != line.rstrip()] == []


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """The program ends without a word where the reader of a pipe has left before anything is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "robustbench_sde", "show", "smoke", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("words", "asked", "found"),
    [
        ("sde-bench list ru", True, "rules\nruns"),
        ("sde-bench show digits-o", True, "digits-ode"),
        ("--show-completion bash", False, "_SDE_BENCH_COMPLETE"),
    ],
)
def test_a_shell_that_asks_for_completions_gets_nothing_else(
    words: str, asked: bool, found: str, tmp_path: Path
) -> None:
    """Completions end with exit code 0 and without a word on stderr, which a shell would show at each TAB."""
    # the shell is named here; by itself Typer would look for the one that has started the tests
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    if asked:
        place = str(len(words.split()) - 1)
        environment |= {"COMP_WORDS": words, "COMP_CWORD": place, "_SDE_BENCH_COMPLETE": "complete_bash"}
    arguments = [] if asked else words.split()
    done = subprocess.run(
        [sys.executable, "-m", "robustbench_sde", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert found in done.stdout
