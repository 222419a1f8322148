"""Figures: one look, one line per checkpoint and setting, the same file for the same run."""

import re
from itertools import product

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from robustbench_sde.reporting.corruptions import corruption_figure, corruption_heatmaps
from robustbench_sde.reporting.distances import accuracy_against_distance
from robustbench_sde.reporting.figures import (
    MOST_FIGURES,
    MOST_LINES,
    accuracy_against_draws,
    accuracy_against_eps,
    accuracy_against_sigma,
    draw_heat_map,
    file_name,
    letter_colour,
    line_style,
    styled,
)
from robustbench_sde.reporting.html.tables import accuracy
from robustbench_sde.runs.parameters import tell_apart
from robustbench_sde.runs.tables import write_tables
from robustbench_sde.runs.words import most_draws, name_lines


def names(drawn):
    return [figure.name for figure in drawn]


def texts(run, name):
    """Return the texts in a figure."""
    svg = (run.path / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    return [
        re.sub(r"&lt;", "<", re.sub(r"&gt;", ">", text)) for text in re.findall(r"<text[^>]*>([^<]*)<", svg)
    ]


def test_twenty_lines_all_look_different():
    """Twenty lines differ in colour, marker or dashes."""
    looks = [tuple(line_style(index).values()) for index in range(20)]
    assert len(set(looks)) == 20


def test_a_curve_per_attack_with_two_budgets_or_more(sample, tmp_path):
    """`square` has one budget and `cw` none: they have no curve. Names are written as they are."""
    run = sample.write(tmp_path)
    drawn = accuracy_against_eps(run.read_summary(), run)
    assert names(drawn) == ["accuracy-eps-linf-pgd"]
    shown = texts(run, drawn[0].name)
    assert [text.strip() for text in shown[-3:]] == [
        '<script>alert("$x_1$ &amp; 50%")</script>', "_plain|ode", "digits-additive",
    ]  # fmt: skip
    assert "eps × 255" in shown
    with Image.open(tmp_path / "figures" / "accuracy-eps-linf-pgd.png") as picture:
        assert picture.format == "PNG"


def test_minimal_norm_attacks_have_a_curve_and_a_table(sample, tmp_path):
    """`cw` alone has no budget: a line per checkpoint through the points of `distances.csv`."""
    run = sample.write(tmp_path)
    write_tables(run.read_summary(), run.read_manifest()["cells"], run, run.read_records)
    drawn = accuracy_against_distance(run)
    assert names(drawn) == ["accuracy-distance-l2-cw"]
    assert "_plain|ode" in [text.strip() for text in texts(run, drawn[0].name)]
    curves = run.read_distances()
    assert curves is not None
    assert set(curves["checkpoint"]) == set(run.read_summary()["checkpoint"])
    sample.rows = [row for row in sample.rows if row["perturbation"] != "cw"]
    without = sample.write(tmp_path / "without")
    write_tables(without.read_summary(), without.read_manifest()["cells"], without, without.read_records)
    assert accuracy_against_distance(without) == []
    assert without.read_distances() is None


def test_a_checkpoint_with_one_budget_gets_no_line(sample, tmp_path):
    """Two points, clean and one budget, are no curve, even beside others that have one."""
    sample.rows = [row for row in sample.rows if row["checkpoint"] != "_plain|ode" or not row["eps"] > 0.04]
    sample.rows = [row for row in sample.rows if row["checkpoint"] != "_plain|ode" or row["eps"] != 0.03]
    run = sample.write(tmp_path)
    accuracy_against_eps(run.read_summary(), run)
    assert "_plain|ode" not in "".join(texts(run, "accuracy-eps-linf-pgd"))


def test_invalid_cells_are_in_no_figure(sample, tmp_path):
    """A row that must not be used is not drawn."""
    for row in sample.rows:
        if row["perturbation"] == "pgd":
            row["status"] = "invalid: the control failed"
    run = sample.write(tmp_path)
    assert accuracy_against_eps(run.read_summary(), run) == []
    assert not (tmp_path / "figures").exists()


def test_accuracy_against_draws(sample, tmp_path):
    """Only what was scored with several numbers of draws; the ticks are those numbers."""
    run = sample.write(tmp_path)
    drawn = accuracy_against_draws(run.read_summary(), run)
    assert names(drawn) == ["accuracy-draws-clean"]
    assert {"1", "4", "16", "score draws"} <= set(texts(run, drawn[0].name))


def test_accuracy_against_sigma_keeps_checkpoints_together(sample, tmp_path):
    """A grid of sigma is a line of one checkpoint, not a line per sigma."""
    for sigma in (0.0, 1.0):
        sample.add("digits-additive", "pgd", 20, norm="linf", eps=0.03, sigma=sigma)
    run = sample.write(tmp_path)
    drawn = accuracy_against_sigma(run.read_summary(), run)
    assert names(drawn) == ["accuracy-sigma-pgd-linf-0.03-7.65-255"]
    assert texts(run, drawn[0].name)[-1] == "digits-additive"


def test_a_suite_with_many_budgets_does_not_fill_the_page(sample, tmp_path):
    """At most `MOST_FIGURES` along one setting."""
    for step, draws in product(range(MOST_FIGURES + 3), (1, 8)):
        sample.add("digits-additive", "pgd", 9, draws=draws, norm="linf", eps=0.1 + step)
    run = sample.write(tmp_path)
    assert len(accuracy_against_draws(run.read_summary(), run)) == MOST_FIGURES


def test_lines_are_named_by_what_differs(sample, tmp_path):
    """Seeds and noise appear in the name where a checkpoint has several, draws never."""
    sample.add("digits-additive", "clean", 30, seed=7, sigma=0.25)
    summary = sample.write(tmp_path).read_summary()
    found = set(name_lines(summary))
    assert {"digits-additive, sigma 0.5, seed 0", "digits-additive, sigma 0.25, seed 7"} <= found
    assert "_plain|ode" in found


def test_the_largest_number_of_draws_counts_for_each_setting(sample, tmp_path):
    """Clean images scored with 64 draws do not push out attacks that were scored with 16."""
    sample.add("digits-additive", "clean", 37, draws=64)
    rows = most_draws(sample.write(tmp_path).read_summary())
    own = rows[rows["checkpoint"] == "digits-additive"]
    assert own.loc[own["perturbation"] == "clean", "score_draws"].tolist() == [64]
    assert set(own.loc[own["perturbation"] == "pgd", "score_draws"]) == {16}


def test_no_curve_runs_through_two_settings_of_an_attack(sample, tmp_path):
    """pgd with 20 and with 3 steps are two attacks; what differs becomes part of the name."""
    other = sample.add("digits-additive", "pgd", 35, norm="linf", eps=0.03)
    summary = sample.write(tmp_path).read_summary()
    cells = [
        {
            "cell": row["cell"],
            "parameters": {"norm": "linf", "eps": row["eps"], "steps": 3 if row["cell"] == other else 20},
        }
        for row in sample.rows
    ]
    apart = tell_apart(summary, cells)
    assert set(apart.loc[apart["norm"] == "linf", "perturbation"]) == {
        "control", "square", "pgd steps=20", "pgd steps=3",
    }  # fmt: skip
    for broken in ([], [None, {"cell": other}], [{"cell": other, "parameters": "steps"}]):
        assert tell_apart(summary, broken).equals(summary)


def test_corruption_figures(sample, tmp_path):
    """Means against severity, and a heat map per checkpoint with an interval in every cell."""
    run = sample.write(tmp_path)
    corruptions = run.read_corruptions()
    assert names(corruption_figure(corruptions, run)) == ["corruptions"]
    drawn = names(corruption_heatmaps(corruptions, run))
    assert len(drawn) == 3
    shown = texts(run, drawn[-1])
    cells = [text for text in shown if re.fullmatch(r"\d+ \(\d+-\d+\)", text)]
    assert len(cells) == 6  # two corruptions and the mean, twice
    assert all(int(text.rstrip(")").rpartition("-")[2]) <= 100 for text in cells)
    assert {"fog", "glass_blur", "mean"} <= set(shown)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_same_run_gives_the_same_file(sample, tmp_path, ending):
    """No date, no random id."""
    run = sample.write(tmp_path)
    file = tmp_path / "figures" / f"accuracy-eps-linf-pgd.{ending}"
    accuracy_against_eps(run.read_summary(), run)
    first = file.read_bytes()
    accuracy_against_eps(run.read_summary(), run)
    assert file.read_bytes() == first


def test_file_names_stay_in_the_folder():
    """Whatever a checkpoint is called."""
    assert file_name("heatmap", "../../etc/passwd") == "heatmap-etc-passwd"
    assert "/" not in file_name("foolbox:LinfPGD", "a b/c")


def test_letters_of_a_heat_map_can_be_read():
    """Letters have a contrast of at least 4.5 with their cell (WCAG 2), whatever the error."""
    for error in np.linspace(0, 1, 101):
        colour = colormaps["Blues"](error)[:3]
        linear = [(c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4) for c in colour]
        light = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
        contrast = {"black": (light + 0.05) / 0.05, "white": 1.05 / (light + 0.05)}
        assert contrast[letter_colour(error)] >= 4.5, error


def test_darker_is_more_errors_in_a_figure():
    """A heat map is darker where there are more errors; a cell without a number stays empty."""
    cells = {("fog", "1"): (0.1, "90"), ("fog", "5"): (0.8, "20"), ("mean", "1"): (0.5, "50")}
    with styled() as figure:
        axes = figure.add_subplot()
        draw_heat_map(axes, cells, ["fog", "mean"], ["1", "5"])
        (image,) = axes.images
        light = image.cmap(image.norm(image.get_array()))[..., :3].sum(-1)
    assert light[0, 0] > light[1, 0] > light[0, 1]
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False, False], [False, True]]
    assert {text.get_text() for text in axes.texts} == {"90", "20", "50"}


def test_darker_is_more_errors_on_the_page():
    """The colour of the page's heat map grows with the errors, from nothing at an accuracy of 1."""
    ends = {"accuracy_low": 0.0, "accuracy_high": 1.0}
    heat = [accuracy({"accuracy": value, **ends}, heat=True).heat for value in (1.0, 0.9, 0.5, 0.0)]
    assert heat[0] == 0
    assert heat == sorted(heat)
    assert len(set(heat)) == 4


def test_a_figure_of_many_lines_draws_the_first_and_says_so(sample, tmp_path):
    """A legend of hundreds of names would cover every line; the table has all of them."""
    for place in range(MOST_LINES):
        for budget in (0.1, 0.2):
            sample.add(f"copy-{place}", "pgd", 9, norm="linf", eps=budget)
    run = sample.write(tmp_path)
    few, many = accuracy_against_eps(sample_of(run, 3), run), accuracy_against_eps(run.read_summary(), run)
    assert [drawn.caption.endswith("over images.") for drawn in few] == [True]
    assert many[0].caption.endswith(f"The first {MOST_LINES} of {MOST_LINES + 3} lines.")
    shown = "".join(texts(run, many[0].name))
    assert "copy-1" in shown
    assert f"copy-{MOST_LINES - 1}" not in shown


def sample_of(run, checkpoints):
    """Return the rows of the first checkpoints of a run."""
    summary = run.read_summary()
    return summary[summary["checkpoint"].isin(summary["checkpoint"].unique()[:checkpoints])]
