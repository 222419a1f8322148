"""A gate that watches accuracy against somebody who may submit an image again."""

import numpy as np
import pytest
from regression.worlds import DRAWS, make_cell, make_side

from robustbench_sde.errors import BenchError
from robustbench_sde.regression.baseline import read_baseline, save_baseline
from robustbench_sde.regression.compare import compare
from robustbench_sde.regression.measures import compare_survival
from robustbench_sde.regression.policy import Policy, PolicyRule, load_policy
from robustbench_sde.regression.verdict import Verdict
from robustbench_sde.reporting.comparison import comparison_markdown

WATCHED = Policy(metric="survives_10", max_drop=0.05)


def sides(before, after, **facts):
    """Two runs of a cell with so many right draws of each image, all decisions right."""
    right = np.full(len(before), True)
    return tuple(make_side(make_cell(right, draws, **facts)) for draws in (before, after))


@pytest.fixture
def fickle():
    """Every image loses one draw of 16: decisions stay, single draws lose 6.25 points at most."""
    before = np.full(400, DRAWS)
    after = np.where(np.arange(400) % 2, DRAWS - 1, DRAWS)
    return sides(before, after)


def test_a_regression_that_single_draws_do_not_show_is_caught(fickle):
    """Half of the images lose one draw of 16: 3 points of a draw, 31 points of ten submissions."""
    assert compare(*fickle, Policy(max_drop=0.05)).verdict is Verdict.OK
    found = compare(*fickle, WATCHED)
    assert found.verdict is Verdict.REGRESSION
    (cell,) = found.cells
    assert [change.measure for change in cell.changes] == ["accuracy", "single_draw_accuracy", "survives_10"]
    assert cell.changes[2].drop.estimate == pytest.approx(0.5 * 10 / 16)
    assert cell.reason.startswith("accuracy after 10 submissions lost 31.2")
    assert "survives 10 lost" in comparison_markdown(found)
    assert "100.0 -&gt; 68.8" in comparison_markdown(found)


def test_no_change_is_no_regression():
    """A false verdict comes in about one of 20 pairs of samples of the same images, or less."""
    dice = np.random.default_rng(0)
    verdicts = []
    for _ in range(60):
        p = dice.beta(2, 0.3, 360)
        verdicts.append(compare(*sides(dice.binomial(DRAWS, p), dice.binomial(DRAWS, p)), WATCHED).verdict)
    assert verdicts.count(Verdict.REGRESSION) + verdicts.count(Verdict.IMPROVED) <= 6


def test_too_few_draws_are_one_sentence(fickle):
    """The message says how many score draws would do."""
    with pytest.raises(
        BenchError, match=r"net pgd linf eps=0\.03 has 16 score draws: measure both runs with 39"
    ):
        compare(*fickle, Policy(metric="survives_20"))


def test_a_rule_watches_some_cells_and_a_deterministic_network_needs_no_draws(fickle):
    """Without noise ten submissions are one: the cell has its one test."""
    rule = Policy(max_drop=0.05, cells=(PolicyRule(match="other *", metric="survives_10"),))
    assert compare(*fickle, rule).verdict is Verdict.OK
    right = np.full(400, True)
    ode = make_side(make_cell(right)), make_side(make_cell(right))
    (cell,) = compare(*ode, WATCHED).cells
    assert [change.measure for change in cell.changes] == ["accuracy"]


@pytest.mark.parametrize("text", ["survives", "survives_0", "certified", "survives_ten"])
def test_an_unknown_metric_is_refused(tmp_path, text):
    """Named with the file and the key."""
    (tmp_path / "policy.yaml").write_text(f"metric: {text}")
    with pytest.raises(BenchError, match=r"policy\.yaml: metric: .*write survives_K"):
        load_policy(tmp_path / "policy.yaml")


def test_a_baseline_remembers_answers_of_several_draws(tmp_path):
    """The file of a run with two draws an answer has the right answers, and the gate counts these."""
    right, draws = np.full(300, True), np.full(300, 12)
    run = make_side(make_cell(right, draws, try_draws=2))
    (cell,) = run.cells
    answers = np.where(np.arange(300) % 3 == 0, 4, 8).astype(np.uint16)
    object.__setattr__(cell, "right_answers", answers)
    save_baseline(run, tmp_path / "b.json")
    found = read_baseline(tmp_path / "b.json")
    np.testing.assert_array_equal(found.cells[0].right_answers, answers)
    assert found.cells[0].facts == cell.facts
    better = make_side(make_cell(right, draws, try_draws=2))
    object.__setattr__(better.cells[0], "right_answers", np.full(300, 8, np.uint16))
    verdict = compare(better, found, Policy(metric="survives_8", max_drop=0.05)).cells[0]
    assert verdict.changes[2].drop.estimate == pytest.approx(1 / 3)
    single = make_side(make_cell(right, draws))
    assert compare(single, found, Policy()).cells[0].reason == "not the same measurement: try_draws 1 -> 2"


def test_the_permutation_test_of_submissions_is_exact():
    """C(15, 8) / C(16, 8) = 1/2: four images lose a half and one wins it, p = 2 (1 + 5) / 2^5."""
    was, now = (side.cells[0] for side in sides([16, 15, 15, 15, 0], [15, 0, 0, 0, 15]))
    places = np.arange(5), np.arange(5)
    test = compare_survival(was, now, places, "survives_8", "net", 0.05)
    assert (test.baseline, test.run) == pytest.approx((0.5, 0.2))
    assert test.drop.estimate == pytest.approx(0.3)
    assert test.p == pytest.approx(12 / 32)


def test_too_few_draws_for_so_many_submissions_say_how_many_would_do():
    """A submission of four draws takes four times the draws."""
    (cell,) = sides([16], [16], try_draws=4, rule="vote")[0].cells
    object.__setattr__(cell, "right_answers", np.array([4], np.uint16))
    places = np.arange(1), np.arange(1)
    with pytest.raises(
        BenchError, match="survives_5, and net has 16 score draws: measure both runs with 20 or more"
    ):
        compare_survival(cell, cell, places, "survives_5", "net", 0.05)
    assert compare_survival(cell, cell, places, "survives_4", "net", 0.05).run == 1.0


def test_pairs_of_draws_survive_by_pairs(tmp_path):
    """Eight pairs, half of the draws right: one in each pair, or four pairs in full; a baseline keeps it."""
    run, other = sides([8, 8], [8, 8])
    object.__setattr__(run.cells[0], "split", np.array([8, 0], np.uint16))
    object.__setattr__(other.cells[0], "split", np.array([0, 0], np.uint16))
    save_baseline(run, tmp_path / "b.json")
    found = read_baseline(tmp_path / "b.json").cells[0]
    np.testing.assert_array_equal(found.split, [8, 0])
    places = np.arange(2), np.arange(2)
    test = compare_survival(found, other.cells[0], places, "survives_2", "net", 0.05)
    assert test.baseline == pytest.approx((1 / 4 + 6 / 28) / 2)
    assert test.run == pytest.approx(6 / 28)
    with pytest.raises(BenchError, match="has 16 score draws: measure both runs with 17 or more"):
        compare_survival(found, other.cells[0], places, "survives_9", "net", 0.05)
