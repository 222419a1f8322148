"""`sde-bench attack --tries`, called in this process."""

import json

import pytest
from builders import save_digits_model

from robustbench_sde.api.result import Result

SMALL = ("--images", 12, "--steps", 1, "--eot-draws", 1, "--eps", 0.1, "--quiet", "--out", "run")


@pytest.fixture
def sde_bench(tmp_path, monkeypatch, program):
    """Run the program in a folder with an SDE and an ODE; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    save_digits_model(tmp_path / "sde.safetensors", sigma=2.0)
    save_digits_model(tmp_path / "ode.safetensors", "none")
    return program


def test_the_table_has_a_column_of_tries(sde_bench, tmp_path):
    """Numbers of the column are those of `Result.survives`, and the figure is in the folder."""
    code, stdout, stderr = sde_bench("attack", "sde.safetensors", *SMALL, "--score-draws", 13, "--tries", 7)
    assert (code, stderr) == (0, "")
    assert "survives 7 (95 %)" in stdout
    estimate, low, high = Result.read("run").survives(7)
    line = next(line for line in stdout.splitlines() if "pgd linf" in line)
    assert f"{100 * estimate:.1f} ({100 * low:.1f}-{100 * high:.1f})" in line
    names = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"accuracy-tries-clean.svg", "accuracy-tries-pgd-linf-0.1-25.5-255.png"} <= names


def test_json_has_the_numbers_of_any_number_of_tries(sde_bench):
    """`--tries 7 --json` adds survives_7 to every row."""
    code, stdout, _ = sde_bench(
        "attack", "sde.safetensors", *SMALL, "--score-draws", 13, "--tries", 7, "--json"
    )
    rows = json.loads(stdout)
    assert code == 0
    assert [row["survives_7"] for row in rows] == [
        Result.read("run").survives(7, place)[0] for place in range(3)
    ]


def test_without_noise_there_is_no_such_column(sde_bench, tmp_path):
    """A deterministic classifier answers every try alike: no column, no figure."""
    code, stdout, _ = sde_bench("attack", "ode.safetensors", *SMALL, "--tries", 7)
    assert code == 0
    assert "survives" not in stdout
    assert not list((tmp_path / "run").glob("figures/accuracy-tries-*"))
    code, *_ = sde_bench(
        "attack", "ode.safetensors", *SMALL, "--tries", 20
    )  # no number of draws is too small
    assert code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--score-draws", 8, "--tries", 20),
            "20 tries cannot be estimated from 8 score draws: take 39 or more",
        ),
        (("--score-draws", 32, "--try-draws", 4, "--tries", 9), "take 36 or more"),
        (("--score-draws", "auto", "--tries", 2), "take 3 score draws or more"),
        (("--tries", 0), "it must be at least 1"),
    ],
)
def test_tries_that_the_draws_cannot_tell_are_refused_before_anything_runs(
    sde_bench, tmp_path, options, message
):
    """One sentence, exit code 2, and no run folder."""
    code, stdout, stderr = sde_bench("attack", "sde.safetensors", *SMALL, *options)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_blocks_of_draws_answer_submissions(sde_bench):
    """`--try-draws 4`: nine draws make two answers, which the columns count."""
    code, *_ = sde_bench(
        "attack", "sde.safetensors", *SMALL, "--score-draws", 9, "--try-draws", 4, "--tries", 2
    )
    assert code == 0
    result = Result.read("run")
    assert (result.summary["try_draws"] == 4).all()
    assert (result.records["tries"] == 2).all()
    assert result.survives(2).estimate == result.summary["survives_2"].iloc[-1]


@pytest.mark.parametrize("law", ["uniform", "gaussian"])
def test_random_points_have_columns_of_their_own(sde_bench, law):
    """`--attack noise --samples 6` prints the mean probability and the shares, which are in the summary."""
    code, stdout, stderr = sde_bench(
        "attack", "sde.safetensors", *SMALL, "--attack", "noise", "--samples", 6, "--set", f"noise.law={law}"
    )
    assert (code, stderr) == (0, "")
    for heading in ("random point", "reaches .9", "reaches .95", "reaches .99"):
        assert heading in stdout
    row = Result.read("run").summary.iloc[-1]
    assert (row["samples"], row["score_draws"]) == (6, 6)
    assert f"{100 * row['random_accuracy']:.1f} ({100 * row['random_low']:.1f}-" in stdout
    assert row["perturbation"] == ("noise" if law == "uniform" else "noise gaussian")


def test_samples_are_for_noise_alone(sde_bench, tmp_path):
    """`--samples` without noise among the attacks is one sentence and exit code 2."""
    code, _, stderr = sde_bench("attack", "sde.safetensors", *SMALL, "--samples", 6)
    assert code == 2
    assert "pgd takes no --samples" in stderr
    assert not (tmp_path / "run").exists()
