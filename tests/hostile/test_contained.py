"""Somebody's code changes its process, prints or ends it: it is put back, and results stay results."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from forked import finished
from torch import nn

import robustbench_sde as rb
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.modules.contained import contained

CODE = """
import os, signal, sys
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.last, self.act = nn.Linear(1024, 10), act

    def forward(self, x):
        self.act()
        return self.last(x.flatten(1))


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        print("in backward")
        return gradient


class BackwardNet(Net):
    def forward(self, x):
        return self.last(Backward.apply(x.flatten(1)))


def leaves():
    return Net(lambda: os.chdir("/"))


def prints():
    print("in a factory")
    return Net(lambda: print("in forward"))


def writes():
    return Net(lambda: os.write(1, b"to the descriptor"))


def replaces():
    return Net(lambda: setattr(sys, "stdout", open(os.devnull, "w")))


def prints_backward():
    return BackwardNet(None)


def ends():
    return Net(lambda: sys.exit(0))
"""
ATTACK = ("attack", "--images", 4, "--steps", 2, "--eps", 0.1, "--json", "--quiet", "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the code."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "nets.py").write_text(CODE)
    return folder


@pytest.mark.parametrize("name", ["leaves", "prints", "writes", "replaces", "prints_backward"])
def test_json_is_json_and_results_lie_where_they_belong(place, name):
    """Whatever the module prints is on stderr, and its folder is not the one that is written to."""
    found = finished(*ATTACK, "--out", name, "--model", f"nets.py:{name}", cwd=place)
    assert found.code in (0, 4), found.stderr
    assert [row["perturbation"] for row in json.loads(found.stdout)] == ["clean", "control", "pgd"]
    assert (place / name / "summary.parquet").exists()


def test_a_module_that_ends_the_program_is_an_error(place):
    """`sys.exit(0)` in forward is neither success nor silence."""
    found = finished(*ATTACK, "--model", "nets.py:ends", cwd=place)
    assert (found.code, found.stdout) == (2, "")
    assert "ends wants to end the program (SystemExit: 0)" in found.stderr


@pytest.mark.parametrize(
    ("what", "change", "find"),
    [
        ("the working directory", lambda: os.chdir("/"), Path.cwd),
        ("torch's default type", lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
        ("number of threads", lambda: torch.set_num_threads(3), torch.get_num_threads),
        ("takes gradients", lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
        ("sys.stdout", lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
        (
            "what a signal does",
            lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
            lambda: signal.getsignal(signal.SIGTERM),
        ),
    ],
)
def test_what_code_changes_is_put_back_and_said_once(what, change, find):
    """The second time nothing is said; an error of the code passes through."""
    before = find()
    for times in (1, 0):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with contained(f"code for {what}"):
                change()
        assert [what in str(warning.message) for warning in said] == [True] * times
        assert find() == before
    with pytest.raises(KeyError), contained(f"code for {what}"):  # noqa: PT012
        change()
        raise KeyError
    assert find() == before


def test_a_module_that_leaves_its_folder_is_named(tmp_path, monkeypatch):
    """The library puts the folder back as well, and leaves printed lines where they are."""
    monkeypatch.chdir(tmp_path)

    class Leaves(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(1024, 10)

        def forward(self, x):
            os.chdir("/")
            return self.last(x.flatten(1))

    data = rb.load_dataset("digits", images=4)
    with pytest.warns(BenchWarning, match="Leaves changes the working directory: it is put back"):
        rb.score(Leaves().eval(), data, score_draws=1, out=None)
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("stdout", "encoding", "said"),
    [
        ("/dev/full", "utf-8", "standard output cannot be written: No space left on device"),
        (None, "utf-8", "standard output cannot be written: Bad file descriptor"),
        ("out.txt", "ascii", ""),
    ],
)
@pytest.mark.parametrize("command", [("list", "attacks"), ("--help",), ("--version",)])
def test_output_that_cannot_be_written_is_one_line(tmp_path, command, stdout, encoding, said):
    """A full or closed stdout ends with code 2; letters that its encoding lacks are written by number."""
    close = ">&-" if stdout is None else f"> {stdout}"
    found = subprocess.run(
        ["sh", "-c", f'"$0" -m robustbench_sde {" ".join(command)} {close}', sys.executable],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert found.returncode == (2 if said else 0)
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == (1 if said else 0)


def test_results_that_cannot_be_printed_are_stored(tmp_path):
    """The line says so, and the same command prints them."""
    command = [sys.executable, "-m", "robustbench_sde", *map(str, ATTACK), "digits-ode", "--out", "run"]
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert found.returncode == 2
    assert "what was computed is stored, and the same command shows it again" in found.stderr
    again = finished(*ATTACK, "digits-ode", "--out", "run", cwd=tmp_path)
    assert len(json.loads(again.stdout)) == 3
    assert "Traceback" not in found.stderr + again.stderr


@pytest.mark.parametrize("option", ["--junit-xml", "--comment", "--badge"])
def test_a_file_of_another_kind_is_not_replaced(tmp_path, monkeypatch, option):
    """`compare` and `baseline save` replace their own files alone; `--force` replaces any."""
    monkeypatch.chdir(tmp_path)
    rb.score("digits-ode", rb.load_dataset("digits", images=4), score_draws=1, out="run")
    precious = tmp_path / "precious.safetensors"
    for command in (
        ("compare", "run", "run", option, precious),
        ("baseline", "save", "run", precious),
    ):
        precious.write_text("weights")
        found = finished(*command, cwd=tmp_path)
        assert (found.code, precious.read_text()) == (2, "weights")
        assert "precious.safetensors exists and is not a" in found.stderr
        assert finished(*command, "--force", cwd=tmp_path).code in (0, 3)
        assert precious.read_text() != "weights"
        assert finished(*command, cwd=tmp_path).code in (0, 3)


def test_the_library_says_which_file_it_would_lose(tmp_path):
    """`save_baseline` has `force`, too."""
    result = rb.score("digits-ode", rb.load_dataset("digits", images=4), score_draws=1, out=tmp_path / "run")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BenchError, match="not a baseline; give `force`"):
        result.save_baseline(tmp_path / "notes.txt")
    assert result.save_baseline(tmp_path / "notes.txt", force=True) == 1
