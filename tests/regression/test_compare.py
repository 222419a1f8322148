"""Verdicts: by hand, and by simulation with known truth."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from regression.worlds import DRAWS, changed, make_cell, make_side

from robustbench_sde.errors import BenchError, ExitCode
from robustbench_sde.regression.baseline import read_baseline, save_baseline
from robustbench_sde.regression.compare import compare
from robustbench_sde.regression.measured import Side
from robustbench_sde.regression.policy import Limits, Policy, PolicyRule
from robustbench_sde.regression.verdict import Verdict

#: (images, right before, lost, won) -> verdict at a tolerated drop of two points
BY_HAND = [
    ((360, 200, 0, 0), Verdict.OK),
    ((360, 200, 2, 2), Verdict.OK),
    ((100, 50, 0, 0), Verdict.INCONCLUSIVE),  # 100 images cannot exclude a loss of two
    ((360, 200, 30, 5), Verdict.REGRESSION),
    ((360, 200, 12, 5), Verdict.INCONCLUSIVE),
    ((360, 200, 5, 30), Verdict.IMPROVED),
    ((10_000, 5000, 100, 20), Verdict.OK),  # a loss of .8 beyond chance is tolerated
    ((10_000, 5000, 250, 20), Verdict.REGRESSION),
]


@pytest.mark.parametrize(("world", "verdict"), BY_HAND)
def test_verdict_of_decisions(world, verdict):
    """One deterministic cell: one test."""
    before, after = changed(*world)
    result = compare(make_side(make_cell(before)), make_side(make_cell(after)), Policy())
    (cell,) = result.cells
    assert (cell.verdict, result.verdict) == (verdict, verdict)
    (change,) = cell.changes
    assert change.measure == "accuracy"
    assert change.drop.estimate == pytest.approx((world[2] - world[3]) / world[0])
    assert (change.images_needed is not None) == (verdict is Verdict.INCONCLUSIVE)
    assert cell.reason


def test_images_are_paired_by_id_over_those_that_are_in_both():
    """Another order and another subset: outcomes follow their image."""
    before, _ = changed(300, 150)
    order = np.random.default_rng(0).permutation(300)[:250]
    result = compare(
        make_side(make_cell(before)), make_side(make_cell(before[order], ids=order)), Policy(max_drop=0.05)
    )
    (cell,) = result.cells
    assert cell.images == 250
    assert cell.changes[0].drop.estimate == 0
    assert cell.changes[0].p == 1


def test_of_a_random_model_both_accuracies_are_tested():
    """Decisions stay, yet single draws lose: the cell is the worst of the two."""
    before, _ = changed(360, 200)
    draws = np.where(before, 14, 2)
    fewer = draws - np.tile([0, 2], 180)
    result = compare(make_side(make_cell(before, draws)), make_side(make_cell(before, fewer)), Policy())
    decisions, single = result.cells[0].changes
    assert (decisions.verdict, single.verdict) == (Verdict.OK, Verdict.REGRESSION)
    assert single.drop.estimate == pytest.approx(1 / DRAWS)
    assert result.cells[0].reason.startswith("single-draw accuracy lost 6.2")


def test_holm_corrects_over_all_tests():
    """A loss that is beyond chance alone is not among ten cells; the family is what can be compared."""
    before, after = changed(360, 200, 18, 5)
    quiet = [make_cell(before, severity=float(k)) for k in range(9)]
    alone = compare(make_side(make_cell(before)), make_side(make_cell(after)), Policy())
    among = compare(make_side(make_cell(before), *quiet), make_side(make_cell(after), *quiet), Policy())
    assert alone.cells[0].verdict is Verdict.REGRESSION
    assert among.cells[0].verdict is Verdict.INCONCLUSIVE
    assert among.cells[0].changes[0].p_holm == pytest.approx(10 * alone.cells[0].changes[0].p)


@pytest.mark.parametrize("draws", [2, 3])
def test_few_draws_have_an_accuracy_of_single_draws(draws):
    """Two draws have an accuracy of single draws beside that of the rule, and both are tested."""
    before, _ = changed(360, 200)
    right = np.where(before, draws, 0)
    cell = make_cell(before, right, score_draws=draws)
    result = compare(make_side(cell), make_side(cell), Policy())
    assert [change.measure for change in result.cells[0].changes] == ["accuracy", "single_draw_accuracy"]
    assert {(change.baseline, change.run) for change in result.cells[0].changes} == {(200 / 360, 200 / 360)}
    alone = make_cell(before, right.clip(0, 1), score_draws=1)
    assert len(compare(make_side(alone), make_side(alone), Policy()).cells[0].changes) == 1


def test_a_long_difference_is_cut_at_eighty_letters():
    """The message keeps eighty letters of each of two long texts."""
    before, _ = changed(360, 200)
    old, new = (make_cell(before, rule=letter * 200) for letter in "ab")
    (cell,) = compare(make_side(old), make_side(new), Policy()).cells
    assert cell.reason == f"not the same measurement: rule {'a' * 80} -> {'b' * 80}"


DIFFERENT = [
    ({"fingerprint": "sha256:bb"}, "fingerprint sha256:aa -> sha256:bb"),
    ({"settings": "PGD(norm='linf', eps=0.03, steps=40, eot_draws=8)"}, "settings steps=20 -> steps=40"),
    ({"rule": "vote"}, "rule mean-prob -> vote"),
    ({"score_draws": 8}, "score_draws 1 -> 8"),
    ({"sigma": 0.7, "noise": "additive"}, "noise none -> additive; sigma 0.0 -> 0.7"),
    ({"eps": 0.05}, "missing"),
    ({"checkpoint": "other"}, "missing"),
    ({"ids": np.arange(1000, 1360)}, "no image in common"),
]


@pytest.mark.parametrize(("difference", "message"), DIFFERENT, ids=[text for _, text in DIFFERENT])
def test_another_measurement_is_incomparable_and_it_says_why(difference, message):
    """Exit code 2; nothing is tested."""
    before, after = changed(360, 200, 100)
    result = compare(make_side(make_cell(before)), make_side(make_cell(after, **difference)), Policy())
    (cell,) = result.cells
    assert (cell.verdict, cell.changes) == (Verdict.INCOMPARABLE, ())
    assert message in cell.reason
    assert result.exit_code is ExitCode.INPUT_ERROR


def test_another_seed_is_comparable_and_said():
    """Cells of a grid of seeds: equal seeds find each other whatever their order; the rest is noted."""
    before, after = changed(360, 200, 2, 2)
    result = compare(make_side(make_cell(before)), make_side(make_cell(after, seed=7)), Policy())
    assert result.verdict is Verdict.OK
    assert "seeds differ (0 and 7)" in result.notes[0]
    grid = [make_cell(before, seed=seed) for seed in (0, 1)]
    swapped = compare(make_side(*grid), make_side(*grid[::-1], make_cell(before, seed=2)), Policy())
    assert [cell.seeds for cell in swapped.cells] == [(0, 0), (1, 1)]
    assert [cell.name for cell in swapped.cells] == [
        "net pgd linf eps=0.03 seed=0",
        "net pgd linf eps=0.03 seed=1",
    ]
    assert swapped.notes == ("1 cell of the run not in the baseline and not judged: net pgd linf eps=0.03",)


def test_cells_of_one_name_are_told_apart():
    """A grid of rules: each finds its own."""
    before, after = changed(360, 200, 40)
    old = make_side(make_cell(before), make_cell(before, rule="vote"))
    now = make_side(make_cell(before, rule="vote"), make_cell(after))
    verdicts = {cell.name: cell.verdict for cell in compare(old, now, Policy()).cells}
    assert verdicts == {
        "net pgd linf eps=0.03 rule=mean-prob": Verdict.REGRESSION,
        "net pgd linf eps=0.03 rule=vote": Verdict.OK,
    }


def test_exit_codes_and_their_order():
    """A regression before anything else; invalid before incomparable before inconclusive."""
    before, after = changed(360, 200, 40)
    few, _ = changed(50, 25)
    old = {
        name: make_cell(few if name == "few" else before, perturbation=name)
        for name in ("same", "few", "gone", "bad", "worse")
    }
    now = old | {
        "worse": make_cell(after, perturbation="worse"),
        "bad": make_cell([], perturbation="bad", sigma=None, status="failed: out of memory"),
    }
    del now["gone"]

    def exit_code(*names):
        sides = [make_side(*(cells[name] for name in names if name in cells)) for cells in (old, now)]
        return compare(*sides, Policy()).exit_code

    assert exit_code("same") is ExitCode.OK
    assert exit_code("same", "few") is ExitCode.INCONCLUSIVE
    assert exit_code("same", "few", "gone") is ExitCode.INPUT_ERROR
    assert exit_code("same", "few", "gone", "bad") is ExitCode.INVALID
    assert exit_code("same", "few", "gone", "bad", "worse") is ExitCode.REGRESSION


def test_what_is_not_required_passes_unless_it_regresses():
    """Missing and inconclusive are shown and do not decide; a regression does."""
    before, after = changed(360, 200, 40)
    few, _ = changed(50, 25)
    policy = Policy(cells=(PolicyRule(match="* fog*", required=False),))
    facts = {"norm": "", "eps": None}
    old = make_side(
        make_cell(before),
        make_cell(few, perturbation="fog", severity=1.0, **facts),
        make_cell(before, perturbation="fog", severity=2.0, **facts),
    )
    result = compare(old, make_side(*old.cells[:2]), policy)
    assert [cell.verdict for cell in result.cells] == ["ok", "inconclusive", "incomparable"]
    assert (result.verdict, result.exit_code) == (Verdict.OK, ExitCode.OK)
    worse = replace(old.cells[2], correct=after)
    assert compare(old, make_side(*old.cells[:2], worse), policy).verdict is Verdict.REGRESSION


def test_too_few_images_for_the_policy_do_not_pass():
    """Nor do they hide a regression."""
    before, after = changed(360, 200, 40)
    policy = Policy(min_images=361)
    for now, verdict in ((before, Verdict.INCONCLUSIVE), (after, Verdict.REGRESSION)):
        result = compare(make_side(make_cell(before)), make_side(make_cell(now)), policy)
        assert result.verdict is verdict
    assert (
        "361" in compare(make_side(make_cell(before)), make_side(make_cell(before)), policy).cells[0].reason
    )


def test_a_policy_rule_that_matches_nothing_is_told():
    """A typing error in a pattern must not pass in silence."""
    before, _ = changed(360, 200)
    policy = Policy(cells=(PolicyRule(match="nett *", max_drop=0.5),))
    assert compare(make_side(make_cell(before)), make_side(make_cell(before)), policy).notes == (
        "the policy's pattern 'nett *' matches no cell",
    )
    assert policy.limits("nett pgd") == Limits(max_drop=0.5)
    assert policy.limits("net pgd") == Limits()


def test_an_empty_baseline_is_an_error():
    """There is nothing that could regress."""
    with pytest.raises(BenchError, match="no cells"):
        compare(Side("empty", ()), Side("run", ()), Policy())


def test_the_json_has_every_number():
    """Through `json` and back."""
    before, after = changed(360, 200, 12, 5)
    result = compare(make_side(make_cell(before), name="a"), make_side(make_cell(after), name="b"), Policy())
    plain = json.loads(json.dumps(result.to_dict()))
    assert (plain["verdict"], plain["exit_code"], plain["baseline"], plain["run"]) == (
        "inconclusive",
        3,
        "a",
        "b",
    )
    (cell,) = plain["cells"]
    assert cell["limits"] == {"max_drop": 0.02, "min_images": 1, "required": True, "metric": None}
    assert set(cell["changes"][0]["drop"]) == {"estimate", "low", "high"}
    assert cell["changes"][0]["images_needed"] > 360


def random_model(rng, images, loss=0.0):
    """Chances of the draws of each image, at 50 % accuracy or so, and those of a model that lost `loss`."""
    chances = rng.beta(0.4, 0.4, images)
    return chances, np.where(rng.random(images) < loss / 0.5, chances * rng.random(images) * 0.2, chances)


def run_of(rng, *cells):
    """Measure these cells: fresh draws decide and are counted."""
    measured = []
    for number, chances in enumerate(cells):
        right = rng.binomial(DRAWS, chances)
        measured.append(make_cell(right > DRAWS / 2, right, severity=float(number)))
    return make_side(*measured)


def test_the_same_model_is_seldom_a_regression():
    """100 pairs of runs of four cells with fresh draws: at most 5 have a regression anywhere."""
    rng = np.random.default_rng(20_26)
    verdicts: Counter[Verdict] = Counter()
    for _ in range(100):
        cells = [random_model(rng, 360)[0] for _ in range(4)]
        verdicts[compare(run_of(rng, *cells), run_of(rng, *cells), Policy()).verdict] += 1
    assert verdicts[Verdict.REGRESSION] <= 5, verdicts


def test_a_model_that_lost_five_points_never_passes_and_an_improved_one_never_fails():
    """40 runs of 360 images, two cells: caught, or inconclusive with a number of images that catches it."""
    rng = np.random.default_rng(5)
    policy = Policy()
    caught, turned, asked = Counter(), Counter(), []
    for _ in range(40):
        models = [random_model(rng, 360, 0.05) for _ in range(2)]
        before, after = (run_of(rng, *cells) for cells in zip(*models, strict=True))
        result = compare(before, after, policy)
        caught[result.verdict] += 1
        turned[compare(after, before, policy).verdict] += 1
        if result.verdict is Verdict.INCONCLUSIVE:
            asked += [max(c.images_needed for c in cell.changes if c.images_needed) for cell in result.cells]
    assert caught[Verdict.REGRESSION] + caught[Verdict.INCONCLUSIVE] >= 38, caught
    assert turned[Verdict.REGRESSION] == 0, turned
    for images in asked:
        models = [random_model(rng, images, 0.05) for _ in range(2)]
        sides = [run_of(rng, *cells) for cells in zip(*models, strict=True)]
        assert compare(*sides, policy).verdict is Verdict.REGRESSION


@pytest.mark.parametrize(
    ("lost", "won", "verdict"),
    [
        (60, 5, Verdict.REGRESSION),
        (3, 3, Verdict.OK),
        (5, 60, Verdict.IMPROVED),
        (25, 8, Verdict.INCONCLUSIVE),
    ],
)
def test_a_policy_keeps_networks_of_a_run_near_a_reference(lost, won, verdict):
    """The SDE must stay within five points of the ODE; a loss beyond it fails the gate."""
    before, after = changed(360, 200, lost, won)
    run = make_side(make_cell(before, checkpoint="ode"), make_cell(after, checkpoint="sde"))
    rule = {"reference": "ode", "match": "sde pgd*", "max_below": 0.05}
    found = compare(run, run, Policy.model_validate({"versus": [rule]}))
    (cell,) = (cell for cell in found.cells if "versus" in cell.name)
    assert cell.name == "sde pgd linf eps=0.03 versus ode"
    assert cell.verdict == verdict
    assert found.verdict == max(verdict, Verdict.OK, key=list(Verdict).index)
    for change, words in (
        ({"reference": "odd"}, "no reference 'odd'"),
        ({"match": "x*"}, "no cell that matches"),
    ):
        with pytest.raises(BenchError, match=words):
            compare(run, run, Policy.model_validate({"versus": [rule | change]}))


def test_images_that_are_in_one_of_two_runs_only_are_told():
    """Fewer images than the baseline are a choice; others than the baseline are worth a sentence."""
    right = np.full(300, True)
    old = make_side(*(make_cell(right, checkpoint=name) for name in ("ode", "other")))
    some = make_side(*(make_cell(right[:200], checkpoint=name) for name in ("ode", "other")))
    later = np.arange(1, 301)
    others = make_side(*(make_cell(right, ids=later, checkpoint=name) for name in ("ode", "other")))
    assert not any("images" in note for note in compare(old, some, Policy()).notes)
    assert [note for note in compare(old, others, Policy()).notes if "images" in note] == [
        "299 images are in both, of 300 of the baseline and 300 of the run (2 cells); the others do not count"
    ]


def test_another_definition_of_the_noise_is_compared_and_named(tmp_path):
    """A baseline of noise definition 1 is other draws, as another seed is; networks without noise are not."""
    right, draws = np.full(100, True), np.full(100, 16)
    ode = make_cell(right, checkpoint="ode")
    old = make_side(make_cell(right, draws, noise_definition=1), ode)
    now = make_side(make_cell(right, draws), ode)
    found = compare(old, now, Policy(max_drop=0.05))
    assert [cell.verdict for cell in found.cells] == [Verdict.OK, Verdict.OK]
    assert [note for note in found.notes if "noise definition" in note] == [
        "noise definition 1 in the baseline, 2 in the run (1 random cell): comparable, but the draws are "
        "others, as with another seed; make the baseline anew"
    ]
    assert not any("noise definition" in note for note in compare(now, now, Policy()).notes)
    save_baseline(old, tmp_path / "b.json")
    text = (tmp_path / "b.json").read_text()
    earlier = [line for line in text.splitlines() if not line.startswith(('"noise_def', '"checksum"'))]
    (tmp_path / "b.json").write_text("\n".join(earlier))
    read = read_baseline(tmp_path / "b.json")
    assert [cell.facts.noise_definition for cell in read.cells] == [1, 0]
