"""Every command that reads a run refuses one whose files were changed, in one line."""

import json
import shutil

import pandas as pd
import pytest
from builders import save_digits_model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with reports/run: clean, control and pgd of two checkpoints."""
    import robustbench_sde as rb

    place = tmp_path_factory.mktemp("made")
    paths = [save_digits_model(place / f"{kind}.safetensors", kind) for kind in ("none", "multiplicative")]
    data = rb.load_dataset("digits", images=12)
    asked = {"eps": 0.1, "steps": 1, "eot_draws": 1, "score_draws": 2}
    rb.attack(paths, data, **asked, out=place / "reports" / "run")
    return place


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it, in which commands run; reports/sound stays as it is."""
    for name in ("run", "sound"):
        shutil.copytree(made / "reports" / "run", tmp_path / "reports" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports" / "run"


def swap(folder):
    """Exchange the files of two cells under each other's names."""
    one, two = (next(folder.glob(f"records/none_{name}*")) for name in ("clean", "pgd"))
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)


def edit(folder):
    """Write a better accuracy into the summary."""
    summary = pd.read_parquet(folder / "summary.parquet")
    summary.loc[summary["perturbation"] == "pgd", "accuracy"] = 0.99
    summary.to_parquet(folder / "summary.parquet", index=False)


READERS = {
    "show": ("show", "run"),
    "show --json": ("show", "run", "--json"),
    "show --robustbench": ("show", "run", "--robustbench"),
    "report": ("report", "run"),
    "compare, new": ("compare", "sound", "run"),
    "compare, old": ("compare", "run", "sound"),
    "baseline save": ("baseline", "save", "run", "baseline.json"),
    "versus --run": ("versus", "--run", "run", "--reference", "none"),
}


@pytest.mark.parametrize("change", [swap, edit])
@pytest.mark.parametrize("reader", READERS)
def test_a_changed_run_is_refused(program, folder, reader, change):
    """Exit code 2, nothing on stdout, and one line that names the file."""
    change(folder)
    code, out, error = program(*READERS[reader])
    assert (code, out) == (2, ""), (code, out, error)
    assert error.startswith("sde-bench: reports/run/")
    assert error.count("\n") == 1
    assert ("holds the records of another cell" if change is swap else "accuracy is 0.99, and") in error
    assert not (folder.parent.parent / "baseline.json").exists()


@pytest.mark.parametrize("reader", READERS)
def test_a_sound_run_is_read(program, folder, reader):
    """Commands that refuse a changed run take the same run as it was made."""
    code, _, error = program(*READERS[reader])
    assert code in ((0, 3) if "compare" in reader else (0,)), error


@pytest.mark.parametrize("change", [None, swap, edit])
def test_a_list_of_runs_goes_on(program, folder, change):
    """A changed run is `damaged` and shows no accuracy; the other one keeps its own."""
    if change is not None:
        change(folder)
    code, out, _ = program("list", "runs", "--json")
    assert code == 0
    found = {run["name"]: (run["state"], run["lowest"] is None) for run in json.loads(out)}
    changed = ("complete", False) if change is None else ("damaged", True)
    assert found == {"sound": ("complete", False), "run": changed}
