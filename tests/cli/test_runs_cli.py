"""Runs that can be seen: while they go on, after a kill, and several of them on one page."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import save_digits_model
from forked import finished, sde_bench

from robustbench_sde.storage.run_folder import RunFolder

SUITE = (
    "checkpoints: [one, two]\nimages: 6\nscore_draws: 2\nperturbations:\n"
    "  - {attack: pgd, eps: [0.05, 0.1], steps: 1, eot_draws: 1}\n"
    "  - {corruption: fog, severity: [1, 2]}\n"
)
RUN = ("run", "tiny.yaml", "--quiet")
CELLS = 12


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two tiny checkpoints and a suite, and the process in it."""
    for name, kind in (("one", "none"), ("two", "additive")):
        save_digits_model(tmp_path / "checkpoints" / f"{name}.safetensors", kind, steps=2)
    (tmp_path / "tiny.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _after_cells(number, act):
    """Do something once a process has stored so many cells."""
    write, stored = RunFolder.write_cell, []

    def writing(self, *arguments):
        write(self, *arguments)
        stored.append(arguments)
        if len(stored) == number:
            act()

    RunFolder.write_cell = writing


def killed_after_eight():
    """Kill the process after eight cells."""
    _after_cells(8, lambda: os.kill(os.getpid(), signal.SIGKILL))


def waiting_after_eight():
    """Wait after eight cells until there is a file `go`."""

    def wait():
        Path("waiting").touch()
        while not Path("go").exists():
            time.sleep(0.02)

    _after_cells(8, wait)


def test_a_killed_run_says_what_it_has_and_what_is_missing(program, place):
    """After SIGKILL, `show`, `list runs` and the page have the cells so far, and say which are missing."""
    assert finished(*RUN, cwd=place, before=killed_after_eight).code == -9
    code, out, error = program("show", "tiny")
    assert (code, error) == (0, "")
    assert out.splitlines()[-3].startswith(
        "run: stopped before its end, and the same command continues, by sde-bench"
    )
    assert out.splitlines()[-2:] == [f"8 of {CELLS} cells stored", "missing: two (4 of 6)"]
    assert out.count("pgd linf") == 2
    shown = json.loads(program("show", "tiny", "--json")[1])
    assert (shown["state"], shown["stored"], shown["planned"], len(shown["rows"])) == ("stopped", 8, CELLS, 8)
    assert (shown["missing"], shown["seconds_left"]) == ({"two": {"missing": 4, "of": 6}}, None)
    (run,) = json.loads(program("list", "runs", "--json")[1])
    assert (run["state"], run["cells"], run["planned"]) == ("stopped", 8, CELLS)
    assert f"8 of {CELLS}" in program("list", "runs")[1]
    assert program("report", "tiny")[0] == 0
    page = (place / "reports" / "tiny" / "index.html").read_text()
    assert f"The run is not finished: 8 of {CELLS} cells stored; missing: two (4 of 6)." in page
    code, out, _ = program(*RUN)
    assert code == 0
    assert f"8 of {CELLS} cells stored already" in out
    assert not (place / "reports" / "tiny" / "index.html").exists(), "the page of eight cells is removed"
    assert "run: complete, by sde-bench run tiny.yaml" in program("show", "tiny")[1]
    assert len(json.loads(program("show", "tiny", "--json")[1])) == CELLS, "a list of rows, as ever"


def test_a_run_that_goes_on_says_how_long_it_may_take(program, place):
    """While a process runs, `show` and the page have the cells so far and an estimate of the time left."""
    process = sde_bench(*RUN, cwd=place, before=waiting_after_eight)
    try:
        while process.is_alive() and not (place / "waiting").exists():
            time.sleep(0.05)
        code, out, error = program("show", "tiny")
        assert (code, error) == (0, "")
        assert f"run: a process is running in reports/tiny, by sde-bench {' '.join(RUN)}" in out
        assert f"8 of {CELLS} cells stored, about " in out
        assert " left\nmissing: two (4 of 6)" in out
        shown = json.loads(program("show", "tiny", "--json")[1])
        assert (shown["state"], shown["stored"], len(shown["rows"])) == ("running", 8, 8)
        assert shown["seconds_left"] > 0
        assert program("report", "tiny")[0] == 0
        page = (place / "reports" / "tiny" / "index.html").read_text()
        assert f"The run goes on: 8 of {CELLS} cells stored, about " in page
    finally:
        (place / "go").touch()
        process.join()
    assert process.exitcode == 0
    assert not (place / "reports" / "tiny" / "index.html").exists()


def test_cells_of_earlier_runs_are_not_counted(program, place):
    """A folder keeps the cells of a run that was replaced; `show` has the rows of the new one alone."""
    assert program(*RUN)[0] == 0
    assert program("run", "tiny.yaml", "--images", 5, "--quiet")[0] == 0
    assert len(list((place / "reports" / "tiny" / "records").iterdir())) == 2 * CELLS
    (run,) = json.loads(program("list", "runs", "--json")[1])
    assert (run["state"], run["cells"], run["planned"]) == ("complete", CELLS, CELLS)
    (place / "reports" / "tiny" / "manifest.yaml").unlink()
    (place / "reports" / "tiny" / "summary.parquet").unlink()
    rows = json.loads(program("show", "tiny", "--json")[1])["rows"]
    assert {row["images"] for row in rows} == {5}


def test_several_runs_make_a_leaderboard(program, place):
    """The page has a board for each budget, links to the page of each run, and JSON beside it."""
    for name in ("one", "two"):
        program("run", "tiny.yaml", name, "--quiet", "--name", name)
    code, out, error = program("report", "one", "two")
    assert (code, error) == (0, "")
    assert out.splitlines()[-2:] == [
        "reports/leaderboard/leaderboard.json",
        "reports/leaderboard/leaderboard.html",
    ]
    page = (place / "reports" / "leaderboard" / "leaderboard.html").read_text()
    assert 'href="../one/index.html"' in page
    assert (place / "reports" / "one" / "index.html").exists(), "a page that was missing is written"
    found = json.loads((place / "reports" / "leaderboard" / "leaderboard.json").read_text())
    assert [(board["norm"], board["eps"]) for board in found["boards"]] == [("linf", 0.05), ("linf", 0.1)]
    assert {row["model"] for row in found["boards"][0]["standings"]} == {"one", "two"}
    assert found["runs"]["one"]["command"].startswith("sde-bench run tiny.yaml one")


def test_a_site_stands_alone(program, place):
    """`--site` writes a folder whose links stay inside it, and does not overwrite anything else."""
    program("run", "tiny.yaml", "--quiet")
    code, out, _ = program("report", "tiny", "--site", "public")
    assert code == 0
    assert out.splitlines()[-1] == "public/index.html"
    page = (place / "public" / "index.html").read_text()
    assert 'href="runs/tiny/index.html"' in page
    assert (place / "public" / "runs" / "tiny" / "index.html").exists()
    assert (place / "public" / ".nojekyll").exists()
    assert program("report", "tiny", "--site", "public")[0] == 0, "a leaderboard is written again"
    (place / "public" / "index.html").unlink()  # as after an interruption: the index comes last
    assert program("report", "tiny", "--site", "public")[0] == 0
    (place / "theirs").mkdir()
    (place / "theirs" / "thesis.tex").touch()
    for folder in ("reports/tiny", "public/runs/tiny", "theirs"):
        code, _, error = program("report", "tiny", "--site", folder)
        assert code == 2
        assert "which is no part of a leaderboard; give another --site" in error
    assert [path.name for path in (place / "theirs").iterdir()] == ["thesis.tex"]
    assert program("report", "tiny", "--site", "x", "--out", "y")[0] == 2


def test_a_leaderboard_names_runs_without_an_attack(program, place):
    """They are not counted among the runs that it ranks."""
    program("run", "tiny.yaml", "--quiet")
    program("corrupt", "one", "--corruptions", "fog", "--severity", 1, "--images", 4, "--quiet", "--out", "a")
    assert program("report", "tiny", "a", "--site", "site")[0] == 0
    page = " ".join((place / "site" / "index.html").read_text().split())
    assert "2 models of 1 run, ranked by" in page
    assert "Without an attack within a budget: a." in page


def test_a_name_of_a_suite_and_a_run_shows_the_suite(program, place):
    """One line says how the run of this name is shown."""
    program("run", "tiny.yaml", "--quiet", "--name", "smoke")
    code, out, error = program("show", "smoke")
    assert (code, "perturbations.1.attack" in out) == (0, True)
    assert "`sde-bench show reports/smoke` shows it" in error
    assert "clean" in program("show", "reports/smoke")[1]


def test_a_baseline_is_saved_with_json(program, place):
    """`--json` prints what was written, and nothing else."""
    program("run", "tiny.yaml", "--quiet")
    code, out, _ = program("baseline", "save", "tiny", "saved.json", "--json")
    size = (place / "saved.json").stat().st_size
    rows = json.loads(program("show", "tiny", "--json")[1])
    cells = sum(row["perturbation"] != "control" for row in rows)
    assert (code, json.loads(out)) == (0, {"path": "saved.json", "cells": cells, "bytes": size})


def test_a_leaderboard_needs_an_attack(program, place):
    """Runs without an attack of a budget end in one line."""
    program("corrupt", "one", "--corruptions", "fog", "--severity", 1, "--images", 4, "--quiet", "--out", "a")
    code, _, error = program("report", "a", "a", "--site", "site")
    assert (code, error.count("\n")) == (2, 1)
    assert "no model of these runs was attacked within a budget" in error


@pytest.mark.parametrize("words", ["show tiny", "list runs", "show baseline.json", "list attacks"])
def test_stored_tables_are_shown_without_torch(program, place, words):
    """Neither torch nor scipy.stats is imported to show what is stored."""
    program(*RUN)
    program("baseline", "save", "tiny", "baseline.json")
    code = (
        "import sys\nfrom robustbench_sde.cli.app import main\n"
        f"sys.argv = ['sde-bench', *{words.split()!r}]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "heavy = {'torch', 'scipy.stats', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
