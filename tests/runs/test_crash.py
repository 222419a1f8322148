"""SIGKILL at random moments: nothing is lost, and nothing is left lying about."""

import random
import time

import pandas as pd
import pytest
from builders import save_digits_model
from forked import sde_bench

from robustbench_sde.storage.run_folder import RunFolder

KILLS = 20
SUITE = """
checkpoints: [tiny-a.safetensors, tiny-b.safetensors]
images: 10
score_draws: [2, 3]
perturbations:
  - {attack: pgd, eps: [0, 0.05, 0.1], steps: 2, eot_draws: 2}
  - {attack: noise, eps: 0.1, restarts: 2}
  - {corruption: [fog, brightness], severity: [1, 3]}
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a suite and the checkpoints that it names."""
    save_digits_model(tmp_path / "tiny-a.safetensors", "additive")
    save_digits_model(tmp_path / "tiny-b.safetensors", "none")
    (tmp_path / "tiny.yaml").write_text(SUITE)
    return tmp_path


def run(place, name):
    return sde_bench("run", "tiny.yaml", "--name", name, "--no-cache", "--quiet", "--json", cwd=place)


def contents(folder):
    """All that a run has written but wall times and its command, by file."""
    run = RunFolder(folder)
    summary = run.read_summary()
    manifest = run.read_manifest()
    del manifest["command"]
    cells = [run.read_cell(cell).row for cell in summary["cell"]]
    return {
        "names": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "summary": summary.drop(columns="seconds"),
        "csv": pd.read_csv(folder / "summary.csv").drop(columns="seconds"),
        "rows": pd.DataFrame(cells).drop(columns="seconds"),
        "records": pd.concat([run.read_records(cell) for cell in summary["cell"]]),
        "manifest": manifest,
        "others": {
            path.name: path.read_bytes()
            for pattern in ("corruptions.csv", "suite.yaml", "examples/*", "figures/*")
            for path in folder.glob(pattern)
        },
    }


def test_twenty_kills_change_nothing(place):
    """Killed at random moments and started again, a run ends in the files of an undisturbed one."""
    process = run(place, "whole")
    process.join()
    assert process.exitcode == 0, (place / "stderr.txt").read_text()
    started = time.monotonic()
    process = run(place, "again")
    process.join()
    seconds = time.monotonic() - started  # with everything imported: of the work alone
    undisturbed = contents(place / "reports" / "whole")
    delays = random.Random(0)
    kills, name = 0, "killed-0"
    while True:
        process = run(place, name)
        process.join(delays.uniform(0, seconds / 2) if kills < KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += process.exitcode == -9
        elif process.exitcode != 0 or kills == KILLS:
            break
        else:
            name = f"killed-{kills}"
    assert process.exitcode == 0, (place / "stderr.txt").read_text()
    for folder in (place / "reports").glob("killed-*"):
        assert_equal(contents(folder), undisturbed)


def assert_equal(found, expected):
    for name, value in expected.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], value, check_exact=True)
        else:
            assert found[name] == value, name
