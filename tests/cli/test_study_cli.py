"""`sde-bench study`, as a user runs it, on tiny checkpoints: every study that is shipped."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from builders import save_digits_model

from robustbench_sde.evaluation.statistics import Z95
from robustbench_sde.reporting.views import VIEWS
from robustbench_sde.runs.suite import suite as suites
from robustbench_sde.shipped import STUDIES, shipped_files
from robustbench_sde.storage.run_folder import RunFolder

#: what makes the shipped suites small: (old, new) in their text
SMALLER = {
    "budget": [("[0.25, 0.5, 1.0, 2.0]", "[0.5, 2.0]"), ("steps: 40", "steps: 3")],
    "corruption": [("benchmark", "[fog, gaussian_noise]"), ("[1..5]", "[1, 5]")],
    "draws": [("[1, 2, 4, 8, 16, 32, 64, 128, 256]", "[1, 4]"), ("steps: 20", "steps: 3")],
    "grid": [("[1, 2, 3, trained, 10, 20, 50, 100]", "[1, trained, 12]")],
    "sigma": [("[0, 0.1, 0.25, trained, 0.5, 0.75, 1.0, 1.5]", "[0, trained]"), ("steps: 20", "steps: 3")],
    "solver": [("steps: 20", "steps: 2"), ("eot_draws: 8", "eot_draws: 2")],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an ODE and an SDE."""
    folder = tmp_path_factory.mktemp("place")
    for kind in ("none", "multiplicative"):
        save_digits_model(folder / "checkpoints" / f"tiny-{kind}.safetensors", kind)
    (folder / "checkpoints" / "tiny-none.state.safetensors").touch()
    return folder


@pytest.fixture
def sde_bench(place, tmp_path, monkeypatch, program):
    """Run the program in `place` on smaller studies; returns exit code, stdout and stderr."""
    files = {}
    for name, path in shipped_files(STUDIES).items():
        text = path.read_text()
        for old, new in SMALLER.get(name, []):
            assert old in text
            text = text.replace(old, new)
        files[f"study/{name}"] = tmp_path / f"{name}.yaml"
        files[f"study/{name}"].write_text(text)
    monkeypatch.setattr(suites, "shipped_files", lambda folder: files)
    monkeypatch.chdir(place)
    return program


@pytest.mark.parametrize("name", [*VIEWS, "corruption"])
def test_every_study_writes_a_table_and_a_figure_and_is_resumed(sde_bench, place, name):
    """The second time everything is stored already, and the numbers are those of the first."""
    code, stdout, stderr = sde_bench("study", name, "--images", 6, "--quiet")
    assert code == 0, stderr
    assert "tiny-multiplicative" in stdout
    folder = RunFolder(place / "reports" / f"study-{name}")
    assert len(list((folder.path / "figures").glob("*.svg"))) == 1
    assert (folder.path / "suite.yaml").exists()
    code, stdout, _ = sde_bench("study", name, "--images", 6, "--quiet", "--json")
    assert code == 0
    assert {row["checkpoint"] for row in json.loads(stdout)} == {"tiny-none", "tiny-multiplicative"}
    assert f"{len(folder.read_summary())} stored" in sde_bench("study", name, "--images", 6, "--dry-run")[1]
    if name in VIEWS:
        table = pd.read_csv(folder.path / "study.csv")
        assert not table[[measure.name for measure in VIEWS[name].measures]].isna().all().any()
        assert len(table) == len(json.loads(stdout))


@pytest.mark.parametrize("name", ["budget", "corruption"])
def test_a_study_says_first_whether_the_noise_helps(sde_bench, name):
    """The first line compares the SDEs with the only ODE, image by image."""
    code, stdout, stderr = sde_bench("study", name, "--images", 6, "--quiet")
    assert code == 0, stderr
    assert "the ODE" in stdout.splitlines()[0]


def study(sde_bench, place, name):
    assert sde_bench("study", name, "--images", 6, "--quiet")[0] == 0
    folder = RunFolder(place / "reports" / f"study-{name}")
    return pd.read_csv(folder.path / "study.csv"), folder


def test_budget_says_by_how_much_the_papers_attack_overstates(sde_bench, place):
    """The overstatement is the accuracy of one draw minus the honest accuracy, paired by image."""
    table, folder = study(sde_bench, place, "budget")
    for row in table[table["perturbation"] == "liu2020"].to_dict("records"):
        same = (table["checkpoint"] == row["checkpoint"]) & (table["eps"] == row["eps"])
        (honest,) = table[same & (table["perturbation"] == "apgd-ce")].to_dict("records")
        assert row["overstated"] == pytest.approx(row["single_draw_accuracy"] - honest["accuracy"])
        own, other = (folder.read_records(cell) for cell in (row["cell"], honest["cell"]))
        difference = own["share_correct"] - other["correct"]
        half = Z95 * difference.std() / np.sqrt(len(difference))
        assert row["overstated_high"] - row["overstated"] == pytest.approx(half)
    assert table[table["perturbation"] == "apgd-ce"]["overstated"].isna().all()


def test_grid_compares_with_the_most_steps(sde_bench, place):
    """Mean absolute change of the label's probability; the most steps are compared with nothing."""
    table, folder = study(sde_bench, place, "grid")
    for _, own in table.groupby("checkpoint"):
        rows = own.set_index("solver_steps").to_dict("index")
        assert sorted(rows) == [1, 3, 12]
        one, finest = (folder.read_records(rows[steps]["cell"])["label_probability"] for steps in (1, 12))
        assert rows[1]["change"] == pytest.approx((one - finest).abs().mean())
        assert np.isnan(rows[12]["change"])


def test_sigma_says_what_a_checkpoint_was_trained_with(sde_bench, place):
    """Beside the noise at test time."""
    table, _ = study(sde_bench, place, "sigma")
    found = set(zip(table["line"], table["sigma"], strict=True))
    assert found == {
        ("tiny-multiplicative, trained with 0.8", 0.0),
        ("tiny-multiplicative, trained with 0.8", 0.8),
        ("tiny-none, trained with 0", 0.0),
    }


def test_solver_pairs_every_attack_with_every_solver_that_takes_the_noise(sde_bench, place):
    """All four on the ODE, euler and heun on the SDE; a warning stands below the table."""
    table, _ = study(sde_bench, place, "solver")
    made = table[table["perturbation"] != "clean"]
    pairs = {
        name: set(zip(own["line"], own["across"], strict=True)) for name, own in made.groupby("checkpoint")
    }
    assert {name: len(found) for name, found in pairs.items()} == {"tiny-none": 16, "tiny-multiplicative": 4}
    assert ("attack on dopri5", "euler") in pairs["tiny-none"]
    assert "dopri5: " in sde_bench("study", "solver", "--images", 6, "--quiet")[1]


def test_studies_are_listed_and_unknown_ones_name_the_nearest(sde_bench):
    """Each with its description."""
    code, stdout, _ = sde_bench("list", "studies", "--json")
    assert code == 0
    assert set(json.loads(stdout)) == {*VIEWS, "corruption"}
    assert all(json.loads(stdout).values())
    code, _, stderr = sde_bench("study", "budgt")
    assert (code, stderr) == (2, "sde-bench: unknown study 'budgt'; did you mean 'budget'?\n")


def test_states_of_trainings_are_passed_over(sde_bench, place):
    """States of trainings, which a shell's * names too, are passed over."""
    paths = sorted((place / "checkpoints").glob("*"))
    assert len(paths) == 3
    code, stdout, stderr = sde_bench("study", "clean", *paths, "--images", 6, "--quiet", "--json")
    assert code == 0, stderr
    assert set(pd.read_json(StringIO(stdout))["checkpoint"]) == {"tiny-none", "tiny-multiplicative"}
