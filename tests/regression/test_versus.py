"""Networks less a reference, image by image."""

import json

import numpy as np
import pytest
from regression.worlds import DRAWS, changed, make_cell, make_side, write_run
from scipy.stats import binomtest

from robustbench_sde.api.result import Result
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.audit.report import AuditReport, AuditRule, AuditVerdict
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.regression.answer import Contrast, setting_text
from robustbench_sde.regression.kinds import kinds_by_pattern, parse_kinds
from robustbench_sde.regression.smoothed import at_equal_smoothing
from robustbench_sde.regression.versus import ONE_TRAINING, versus

CLEAN = {"perturbation": "clean", "norm": "", "eps": None, "settings": "Clean()"}
SDE = {"noise": "additive", "sigma": 0.5, "solver": "euler", "solver_steps": 8}
ODE = {"solver": "euler", "solver_steps": 8}


def pair(lost, won, *, images=200, right=100, name="sde", **facts):
    """An ODE and an SDE that has lost and won so many of its images."""
    before, after = changed(images, right, lost, won)
    sde = make_cell(after, after.astype(int) * DRAWS, checkpoint=name, **SDE, **facts)
    return make_cell(before, checkpoint="ode", **ODE, **facts), sde


def test_the_difference_is_that_of_paired_images_and_its_p_value_is_exact():
    """30 images lost and 10 won: -10 points; the p-value is the binomial one, doubled by Holm's two tests."""
    found = versus(make_side(*pair(30, 10)), "ode")
    (row,) = found.rows
    assert (row.subject, row.setting, row.images) == ("sde", "pgd linf 0.03", 200)
    assert (row.accuracy.reference, row.accuracy.subject) == (0.5, 0.4)
    assert row.accuracy.difference.estimate == pytest.approx(-0.1)
    assert row.accuracy.difference.low < -0.1 < row.accuracy.difference.high < 0
    assert row.accuracy.p == pytest.approx(binomtest(30, 40).pvalue)
    assert row.accuracy.p_holm == pytest.approx(2 * row.accuracy.p)
    assert row.single_draw is not None
    assert row.single_draw.difference.estimate == pytest.approx(-0.1)
    assert 0.05 < row.accuracy.detectable < 0.2
    assert found.notes == (ONE_TRAINING,)


def test_the_answer_comes_in_sentences():
    """Below, above and within chance have sentences of their own; clean images come last."""
    ode, worse = pair(40, 5, name="worse")
    _, better = pair(2, 40, name="better")
    _, equal = pair(6, 5, name="equal")
    clean = make_cell(changed(200, 190)[0], checkpoint="ode", **ODE, **CLEAN)
    right = changed(200, 190)[0]
    same = make_cell(right, right * DRAWS, checkpoint="equal", **SDE, **CLEAN)
    first, last = versus(make_side(clean, same, ode, worse, better, equal), "ode").sentences()
    assert first.startswith("worse is 17.5 points below the ODE under pgd linf 0.03 (")
    assert "; better is 19.0 points above (" in first
    assert first.endswith("; the other does not differ beyond chance")
    assert last.startswith("equal does not differ from the ODE on clean images beyond chance (+0.0 points; ")
    (other,) = versus(make_side(ode, worse), "worse").sentences()
    assert other.startswith("ode is 17.5 points above worse under pgd linf 0.03 (")


@pytest.mark.parametrize(
    ("p", "text"), [(0.0477, "0.048"), (0.0523, "0.052"), (2.4e-7, "2e-07"), (0.0094, "0.009"), (1.0, "1")]
)
def test_a_p_value_beside_the_level_is_on_its_own_side_in_words(p, text):
    """A value below .05 is not written as .05, which would say nothing."""
    found = Contrast("accuracy", 0.5, 0.4, Interval(-0.1, -0.2, -0.01), p / 2, p, 0.1)
    assert found.evidence == f"1.0 to 20.0, p = {text}"


def test_too_few_images_to_find_anything_are_said_to_be_so():
    """Four images find no difference, however large."""
    (sentence,) = versus(make_side(*pair(2, 0, images=4, right=3)), "ode").sentences()
    assert "so few images and trainings find no difference at all" in sentence


def several(seed, mean, count, spread, images=300):
    """Cells of `count` trainings whose levels differ by `spread`; images have difficulties in common."""
    difficulty = np.random.default_rng(99).random(images)
    generator = np.random.default_rng(seed)
    for training in range(count):
        level = mean + spread * generator.standard_normal() + 0.1 * generator.standard_normal(images)
        right = difficulty < level
        yield make_cell(right, right.astype(int) * DRAWS, checkpoint=f"kind{seed}-{training}", **SDE)


def test_trainings_of_a_kind_are_pooled_and_widen_the_interval():
    """Three trainings each that differ by 10 points: no claim about kinds, and a wider interval."""
    cells = [*several(1, 0.6, 3, 0.1), *several(2, 0.5, 3, 0.1)]
    patterns = {"one": "kind1-*", "two": "kind2-*"}
    names = [cell.facts.checkpoint for cell in cells]
    found = versus(make_side(*cells), "one", kinds_by_pattern(patterns, names))
    (row,) = found.rows
    assert (row.subject, row.trainings) == ("two", (3, 3))
    assert not row.accuracy.differs
    assert found.spread["pgd linf 0.03"] == pytest.approx(0.1, abs=0.05)
    assert not found.notes
    alone = versus(make_side(cells[0], cells[5]), "kind1-0").rows[0].accuracy
    assert (
        alone.difference.high - alone.difference.low
        < row.accuracy.difference.high - row.accuracy.difference.low
    )


def test_a_checkpoint_stands_for_its_kind():
    """The reference may be a checkpoint: its whole kind is compared with."""
    cells = [*several(1, 0.6, 2, 0.0), *several(2, 0.5, 1, 0.0)]
    kinds = {"one": ["kind1-0", "kind1-1"]}
    found = versus(make_side(*cells), "kind1-1", kinds)
    assert found.reference == "one"
    assert found.rows[0].trainings == (1, 2)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"settings": "PGD(norm='linf', eps=0.03, steps=40, eot_draws=8)"}, "steps=20 against steps=40"),
        (
            {"settings": "PGD(norm='linf', eps=0.03, steps=20, eot_draws=1)"},
            "eot_draws=8 against eot_draws=1",
        ),
        ({"rule": "vote"}, "rule mean-prob against vote"),
        ({"precision": "bf16"}, "precision fp32 against bf16"),
    ],
)
def test_unequal_effort_is_refused_unless_it_is_allowed(facts, words):
    """Other steps, draws a gradient or decision rules are named; allowed, they are a warning."""
    ode, _ = pair(5, 5)
    _, sde = pair(5, 5, **facts)
    with pytest.raises(BenchError, match="unequal effort: ode and sde under pgd") as refused:
        versus(make_side(ode, sde), "ode")
    assert words in str(refused.value)
    (warning,) = versus(make_side(ode, sde), "ode", allow_unequal=True).warnings
    assert words in warning


@pytest.mark.parametrize(
    ("cells", "reference", "words"),
    [
        (pair(1, 1), "odd", "did you mean 'ode'"),
        (pair(1, 1)[:1], "ode", "no network beside 'ode'"),
        ((pair(1, 1)[0], pair(1, 1, eps=0.06)[1]), "ode", "shares no valid perturbation setting"),
        (
            (*pair(1, 1), make_cell(changed(9, 5)[0], checkpoint="ode", solver="heun")),
            "ode",
            "several networks",
        ),
    ],
)
def test_what_cannot_be_compared_is_an_error(cells, reference, words):
    """An unknown, lonely or ambiguous reference, and networks without a common setting."""
    with pytest.raises(BenchError, match=words):
        versus(make_side(*cells), reference)


def test_patterns_name_kinds():
    """A pattern has to match, and a checkpoint has one kind at most."""
    names = ["digits-mult-0", "digits-mult-1", "digits-ode"]
    kinds = kinds_by_pattern(parse_kinds("sde=*mult*, ode=*ode"), names)
    assert kinds == {"sde": names[:2], "ode": names[2:]}
    for text, words in (
        ("sde", "write NAME=PATTERN"),
        ("a=x*", "matches no checkpoint"),
        ("a=*,b=*0", "kinds a and b"),
    ):
        with pytest.raises(BenchError, match=words):
            kinds_by_pattern(parse_kinds(text), names)


def test_a_run_in_a_folder_is_compared_and_a_failed_audit_is_told(tmp_path):
    """`Result.versus` reads the run; an audit beside it that failed becomes a warning."""
    run = write_run(tmp_path / "run", make_side(*pair(30, 10)))
    rule = AuditRule("black-box", AuditVerdict.FAIL, "", {})
    AuditReport("sde", "", "digits", 50, 0, AuditVerdict.FAIL, (rule,), 1.0).write(tmp_path / "audit-sde")
    found = Result.read(run).versus("ode")
    assert found.folder == run
    assert found.warnings == ("the audit of sde failed (black-box): its numbers must not be used",)
    again = json.loads(json.dumps(found.to_dict()))
    assert again["rows"][0]["accuracy"]["difference"][0] == pytest.approx(-0.1)
    assert again["answer"] == found.sentences()
    assert again["folder"] == str(run)


def test_networks_are_compared_at_equal_smoothing():
    """Smoothing is part of the setting, unless the reference is itself a name with a smoothing."""
    cells = [
        make_cell(changed(100, 50, lost=lost)[1], checkpoint=f"{name}@{smoothing}")
        for smoothing in (0.12, 0.25)
        for name, lost in (("ode", 0), ("sde", 10))
    ]
    both = at_equal_smoothing(make_side(*cells), "ode")
    found = versus(both, "ode")
    assert [(row.subject, row.perturbation) for row in found.rows] == [
        ("sde", "pgd@0.12"),
        ("sde", "pgd@0.25"),
    ]
    one = versus(at_equal_smoothing(make_side(*cells[:2]), "ode"), "ode")
    assert [row.perturbation for row in one.rows] == ["pgd"]
    named = make_side(*cells)
    assert at_equal_smoothing(named, "ode@0.12") is named
    plain = make_side(cells[0], make_cell(changed(100, 50)[1], checkpoint="sde"))
    assert {cell.facts.perturbation for cell in at_equal_smoothing(plain, "ode").cells} == {"pgd@0.12", "pgd"}


def test_many_settings_have_sentences_where_something_differs():
    """The one setting of eight with a difference is told, and how many others have none."""
    eps = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]
    cells = [cell for e in eps for cell in pair(40 if e == 0.04 else 5, 5, eps=e)]
    first, last = versus(make_side(*cells, *pair(5, 5, **CLEAN)), "ode").sentences()
    assert first.startswith("sde is 17.5 points below the ODE under pgd linf 0.04 (")
    assert last == "under 7 settings nothing differs from the ODE beyond chance"


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (("pgd", "linf", 8 / 255, None), "pgd linf 8/255"),
        (("pgd", "linf", 8.1 / 255, None), "pgd linf 0.0317647"),
        (("pgd", "linf", 51 / 255, None), "pgd linf 0.2"),
        (("pgd", "l2", 0.125, None), "pgd l2 0.125"),
        (("fog", "", None, 3.0), "fog 3"),
        (("clean", "", None, None), "clean"),
    ],
)
def test_a_setting_in_words(setting, text):
    """A budget of long decimals is a grey level where it is a whole one."""
    assert setting_text(setting) == text


def test_single_draws_are_compared_from_two_draws_on():
    """Two draws are twice the single ones: an image that loses one of two has lost a half."""
    ode = make_cell([True] * 4, checkpoint="ode", **ODE)
    sde = make_cell([True] * 4, [2, 2, 1, 1], checkpoint="sde", **SDE, score_draws=2)
    (row,) = versus(make_side(ode, sde), "ode").rows
    assert row.accuracy.difference.estimate == 0.0
    assert row.single_draw.difference.estimate == pytest.approx(-0.25)
    assert row.single_draw.p == pytest.approx(0.5)
    alone = versus(make_side(ode, make_cell([True] * 4, checkpoint="net", **ODE)), "ode")
    assert alone.rows[0].single_draw is None
    assert alone.to_dict()["folder"] is None


@pytest.mark.parametrize(
    ("reference", "subject", "expected"),
    [
        (ODE | {"noise": "none"}, SDE, True),
        (ODE | {"noise": "keyed"}, SDE, True),
        (ODE | {"noise": "none"}, ODE | {"noise": "keyed"}, False),
        ({"noise": "none", "solver": "", "solver_steps": 0}, SDE, False),
        (ODE | {"noise": "none"}, {"noise": "opaque", "solver": "", "solver_steps": 0}, False),
        (SDE, SDE, False),
    ],
    ids=["ODE", "noise on the image", "two ODEs", "no solver", "another network", "two SDEs"],
)
def test_an_sde_against_an_ode_is_one_of_ours(reference, subject, expected):
    """Both have solvers of ours; noise on the image makes no SDE."""
    cells = [
        make_cell([True, False], checkpoint=name, **facts)
        for name, facts in (("a", reference), ("b", subject))
    ]
    assert versus(make_side(*cells), "a").sde_against_ode is expected


def test_smoothing_of_clean_images_is_said_in_words():
    """A sentence about clean images names the smoothing, one about an attack has it in its setting."""
    cells = [
        make_cell(changed(100, 50)[0], checkpoint=name, **ODE, **CLEAN | {"perturbation": perturbation})
        for name in ("a", "b")
        for perturbation in ("clean", "clean@0.12", "fog@0.12")
    ]
    sentences = [sentence.partition(" beyond")[0] for sentence in versus(make_side(*cells), "a").sentences()]
    told = "b does not differ from a"
    assert sorted(sentences) == [
        f"{told} on clean images",
        f"{told} on clean images at smoothing 0.12",
        f"{told} under fog@0.12",
    ]


def test_an_error_says_which_row_was_left_out():
    """A network whose row must not be used is none to compare with."""
    ode, sde = pair(1, 1)
    broken = make_cell(sde.correct, checkpoint="sde", status="failed: no memory")
    with pytest.raises(
        BenchError, match=r"no network beside 'ode'.*: sde pgd linf eps=0.03 is left out \(failed"
    ):
        versus(make_side(ode, broken), "ode")


def test_a_comparison_shows_itself_in_one_line():
    """Several SDEs without a difference are told together, and the first sentence stands for all."""
    ode, one = pair(5, 5, name="one")
    other = pair(5, 5, name="other")[1]
    found = versus(make_side(ode, one, other), "ode")
    (sentence,) = found.sentences()
    assert sentence.startswith(
        "no SDE differs from the ODE under pgd linf 0.03 beyond chance (a difference of "
    )
    assert repr(found) == f"<Versus ode on digits: {sentence}>"
    more = versus(make_side(ode, one, *pair(5, 5, eps=0.06, name="one")), "ode")
    assert repr(more).endswith(" (and 1 more)>")
    against = versus(make_side(ode, one, other), "one").sentences()[0]
    assert against.startswith("none of 2 differs from one under pgd linf 0.03 beyond chance (")


def test_draws_of_two_random_networks_are_effort():
    """Twice the draws are refused between SDEs; an ODE needs one."""
    one = pair(5, 5, name="one")[1]
    _, after = changed(200, 100, 5, 5)
    other = make_cell(after, after * 2 * DRAWS, checkpoint="other", **SDE, score_draws=2 * DRAWS)
    with pytest.raises(BenchError, match=rf"{DRAWS} score draws against {2 * DRAWS}"):
        versus(make_side(one, other), "one")
