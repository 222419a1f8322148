"""The figure of accuracies that are certified, attacked, attacked again and random."""

import math

import pandas as pd
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.reporting.figures import Drawn
from robustbench_sde.reporting.four_curves import _curves, four_curves
from robustbench_sde.reporting.tries import accuracy_against_tries, curve
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import CERTIFIED, empty_table


def run(path, names):
    """Attack at two budgets of l2 and store the run."""
    settings = {"norm": "l2", "eps": [0.5, 1.0], "steps": 2, "eot_draws": 1, "score_draws": 24}
    settings |= {"samples": 9} if "noise" in names else {}
    return rb.attack(make_model(sigma=1.5), make_data(), names, out=path, **settings)


def test_all_curves_of_a_checkpoint_are_in_one_figure(tmp_path):
    """Curves begin at the clean row and take the lowest attack of a budget; a certificate says its rule."""
    summary = run(tmp_path / "run", ["pgd", "apgd-ce", "noise"]).summary
    sound = summary[summary["eps"] > 0]
    row = {
        "rule": "vote",
        "radius": 0.5,
        "certified_accuracy": 0.25,
        "certified_low": 0.1,
        "certified_high": 0.4,
    }
    certified = pd.DataFrame([row])
    clean = summary[summary["perturbation"] == "clean"]
    curves = _curves(clean, sound, certified)
    assert list(curves) == ["certified (vote)", "attacked", "attacked, 10 submissions", "random"]
    assert curves["certified (vote)"].to_numpy().tolist() == [[0.5, 0.25, 0.1, 0.4]]
    for label, column in (("attacked", "accuracy"), ("attacked, 10 submissions", "survives_10")):
        expected = [clean[column].iloc[0]]
        attacks = sound[sound["perturbation"] != "noise"]
        expected += [attacks.loc[attacks["eps"] == eps, column].min() for eps in (0.5, 1.0)]
        assert curves[label]["accuracy"].tolist() == expected
        assert curves[label]["eps"].tolist() == [0.0, 0.5, 1.0]
    points = sound[sound["perturbation"] == "noise"]
    assert curves["random"]["accuracy"].tolist()[1:] == points["random_accuracy"].tolist()
    same = _curves(clean, sound, certified.assign(rule="mean-prob"))
    assert "certified" in same


def test_the_figures_are_written_and_without_random_points_there_is_none(tmp_path):
    """A run of attacks alone has no such figure; with random points it has one for its norm."""
    with_points = run(tmp_path / "with", ["pgd", "noise"])
    folder = RunFolder(with_points.folder)
    (drawn,) = four_curves(with_points.summary, folder, folder)
    assert isinstance(drawn, Drawn)
    assert drawn.name.startswith("four-curves-l2-")
    text = (folder.path / "figures" / f"{drawn.name}.svg").read_text()
    for label in ("attacked, 10 submissions", "random"):
        assert label in text
    attacks = with_points.summary[with_points.summary["perturbation"] != "noise"]
    assert four_curves(attacks, folder, folder) == []


def test_a_curve_of_tries_is_that_of_the_result(tmp_path):
    """Accuracy falls with the number of submissions, up to the number of draws; a figure for each setting."""
    result = run(tmp_path / "run", ["pgd"])
    found = curve(result.records, [1, 2, 5, 12, 20])
    assert found["tries"].tolist() == [1, 2, 5, 12]
    assert found["accuracy"].tolist() == [result.survives(k).estimate for k in (1, 2, 5, 12)]
    assert found["accuracy"].is_monotonic_decreasing
    folder = RunFolder(result.folder)
    names = [drawn.name for drawn in accuracy_against_tries(result.summary, folder, folder)]
    assert names == ["accuracy-tries-clean", "accuracy-tries-pgd-l2-0.5", "accuracy-tries-pgd-l2-1"]
    assert all((folder.path / "figures" / f"{name}.png").exists() for name in names)
    assert not any(math.isnan(value) for value in found["accuracy_low"])
    assert empty_table(CERTIFIED).empty
