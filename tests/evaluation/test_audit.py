"""The masking audit: honest checkpoints pass, each planted fault is found by its own rule."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.audit import gradients
from robustbench_sde.evaluation.audit.audit import RULES, audit
from robustbench_sde.evaluation.audit.compare import (
    FEWEST_IMAGES,
    FLOOR,
    MATERIAL,
    MISSED,
    STAGES,
    AttackComparison,
    images_for_floor,
    judged,
    smallest_excess,
    try_in_stages,
    wins_to_warn,
)
from robustbench_sde.evaluation.audit.lab import AuditSettings, Lab, NotApplicableError
from robustbench_sde.evaluation.audit.report import AuditReport, AuditRule, AuditVerdict
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.fixed_path import FixedPath
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.reporting.audit import verdict_line
from robustbench_sde.sde.draws import Stream

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
SETTINGS = AuditSettings(steps=10, eot_draws=2, score=ScoreSettings(draws=8))


def verdicts(report):
    return {rule.name: rule.verdict for rule in report.rules}


def failed(report):
    return {rule.name for rule in report.rules if rule.verdict == AuditVerdict.FAIL}


def images(count):
    return rb.load_dataset("digits", split="test", images=count)


# ------------------------------------------------------------------------------------------- honest models


@pytest.mark.parametrize(
    ("name", "count", "skipped"),
    [
        ("ode", 24, {"gradient-agreement", "transfer", "fixed-path", "more-draws"}),
        ("multiplicative", 16, set()),
    ],
)
def test_shipped_checkpoints_pass(name, count, skipped):
    """No rule warns; what compares attacks is inconclusive on so few images, and says what it could see."""
    model = rb.load_checkpoint(CHECKPOINTS / f"digits-{name}.safetensors")
    report = audit(model, images(count), SETTINGS)
    found = verdicts(report)
    assert list(found) == list(RULES)
    assert {rule for rule, verdict in found.items() if verdict == AuditVerdict.SKIP} == skipped
    powers = ("seen", "seen_over_chance")
    comparing = {r.name for r in report.rules if any(r.numbers.get(power, 0.0) > FLOOR for power in powers)}
    assert {rule for rule, verdict in found.items() if verdict == AuditVerdict.INCONCLUSIVE} == comparing
    assert comparing >= {"iterative", "monotone", "black-box", "random-noise", "more-steps", "more-restarts"}
    passed = {rule for rule, verdict in found.items() if verdict == AuditVerdict.PASS}
    assert passed == found.keys() - skipped - comparing
    assert report.verdict == AuditVerdict.INCONCLUSIVE
    assert report.seen == max(rule.numbers.get("seen", 0.0) for rule in report.rules)
    assert AuditReport.from_json(report.to_json()) == report
    assert (report.checkpoint, report.images, report.dataset) == (f"digits-{name}", count, "digits")
    assert all("\n" not in rule.message for rule in report.rules)


# ------------------------------------------------------------------------------------------- planted faults


class Rounded(Classifier):
    """Sees nine grey levels: the gradient is zero everywhere."""

    def logits(self, images, image_ids, draws):
        return super().logits((images * 8).round() / 8, image_ids, draws)


class Saturated(Classifier):
    """Logits so large that the softmax is one or zero, and its gradient zero."""

    def logits(self, images, image_ids, draws):
        return super().logits(images, image_ids, draws) * 1e4


class Detached(Classifier):
    """No gradient passes the stem."""

    def logits(self, images, image_ids, draws):
        return super().logits(images.detach(), image_ids, draws)


class Misleading(Classifier):
    """The right logits with the gradient of the mirrored image."""

    def logits(self, images, image_ids, draws):
        mirrored = images.flip(-1)
        return super().logits(mirrored + (images - mirrored).detach(), image_ids, draws)


class Undefined(Classifier):
    """The gradient of a root at zero."""

    def logits(self, images, image_ids, draws):
        return super().logits(images + 0 * (images - images.detach()).pow(0.5), image_ids, draws)


class NoisyGradients(Classifier):
    """Noise where gradients are taken, none where images are scored."""

    def logits(self, images, image_ids, draws):
        heard = self.with_noise(sigma=2.0) if images.requires_grad else self.with_noise(enabled=False)
        return Classifier.logits(heard, images, image_ids, draws)


class Counting(Classifier):
    """Noise of the score that depends on how often it was asked for; other draws do not show it."""

    calls = 0

    def logits(self, images, image_ids, draws):
        if draws.stream != Stream.SCORE:
            return super().logits(images, image_ids, draws)
        Counting.calls += 1
        return super().logits(images, image_ids, replace(draws, seed=draws.seed + Counting.calls))


class Adjoint(Classifier):
    """Derivatives 14 % too large."""

    def logits(self, images, image_ids, draws):
        return super().logits(images + 0.14 * (images - images.detach()), image_ids, draws)


class OnlyHere(Classifier):
    """Masks its gradients on its own discretisation, as adaptive solvers do."""

    def logits(self, images, image_ids, draws):
        if (self.solver, self.spec.steps) == ("euler", 8):
            images = (images * 255).round() / 255
        return super().logits(images, image_ids, draws)


def plant(kind, name="ode"):
    """A shipped checkpoint with a fault."""
    honest = rb.load_checkpoint(CHECKPOINTS / f"digits-{name}.safetensors")
    return kind.from_weights(honest.spec, honest.state_dict()).requires_grad_(False).eval()


PLANTED = [
    (Rounded, "ode", {"usable-gradients", "finite-differences"}),
    (Misleading, "ode", {"finite-differences", "black-box"}),
    (Undefined, "ode", {"usable-gradients"}),
    (OnlyHere, "ode", {"usable-gradients"}),
]


@pytest.mark.parametrize(("kind", "name", "rules"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_masked_gradients_fail(kind, name, rules):
    """Masked gradients fail by the rules that name the fault, among others."""
    report = audit(plant(kind, name), images(24), SETTINGS)
    assert report.verdict == AuditVerdict.FAIL
    assert rules <= failed(report), verdicts(report)
    assert (
        verdicts(report)["eps-0-control"] == AuditVerdict.PASS
    )  # what an attack cannot use does not move an image


def test_saturated_logits_hide_nothing():
    """Losses are looked at by their log odds: a softmax of zeros and ones masks no gradient."""
    report = audit(plant(Saturated, "ode"), images(24), SETTINGS)
    assert not failed(report)
    assert verdicts(report)["usable-gradients"] == AuditVerdict.PASS


def test_a_detached_stem_fails_and_attacks_with_gradients_are_skipped():
    """No gradient arrives at all: that is the finding, and nothing crashes on the way."""
    report = audit(plant(Detached), images(12), SETTINGS)
    assert failed(report) == {"usable-gradients"}
    skipped = {rule.name: rule.message for rule in report.rules if rule.verdict == AuditVerdict.SKIP}
    assert skipped["iterative"] == skipped["finite-differences"] == "no gradient reaches the images"
    assert report.verdict == AuditVerdict.FAIL


def test_noise_in_the_gradient_path_alone_fails():
    """An attack on other logits than those that are scored fails, and derivatives of another function."""
    lab = Lab(plant(NoisyGradients, "multiplicative"), images(12), SETTINGS)
    assert RULES["same-forward"](lab).verdict == AuditVerdict.FAIL
    assert RULES["finite-differences"](lab).verdict != AuditVerdict.PASS


def test_logits_that_are_no_numbers_are_not_the_same():
    """NaN is equal to nothing, wherever it comes."""

    class Broken(Classifier):
        """No logit is a number."""

        def logits(self, images, image_ids, draws):
            return super().logits(images, image_ids, draws) * float("nan")

    finding = RULES["same-forward"](Lab(plant(Broken), images(12), SETTINGS))
    assert finding.verdict == AuditVerdict.FAIL


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [(Classifier, AuditVerdict.PASS), (Adjoint, AuditVerdict.WARN)],
    ids=["honest", "14 % off"],
)
def test_gradients_that_are_a_little_off_warn(kind, verdict):
    """Gradients like those of an adjoint method with few steps warn; honest networks are far from it."""
    found = gradients.finite_differences(Lab(plant(kind, "multiplicative"), images(24), SETTINGS))
    assert found.verdict == verdict
    assert (found.numbers["median_0.0001"] > 0.13) == (verdict == AuditVerdict.WARN)


def test_finite_differences_say_nothing_about_bf16():
    """It rounds more than a small step changes."""
    model = plant(Classifier).with_precision("bf16")
    with pytest.raises(NotApplicableError, match="bf16"):
        gradients.finite_differences(Lab(model, images(10), SETTINGS))


def test_noise_that_is_no_function_of_image_and_draw_fails_the_control():
    """A counter in the noise: eps 0 is not the clean row."""
    report = audit(plant(Counting, "multiplicative"), images(10), replace(SETTINGS, steps=2))
    assert "eps-0-control" in failed(report)
    (control,) = (rule for rule in report.rules if rule.name == "eps-0-control")
    assert "not a function of image and draw" in control.message


# ------------------------------------------------------------------------------------------- the pieces


def decisions(*correct):
    return pd.DataFrame({"correct": correct})


@pytest.mark.parametrize(
    ("won", "lost", "both", "verdict"),
    [
        (10, 0, 40, AuditVerdict.FAIL),  # p = 2^-10, 20 points
        (9, 0, 41, AuditVerdict.WARN),  # p = 2^-9
        (7, 0, 43, AuditVerdict.WARN),  # p = 2^-7
        (6, 0, 44, AuditVerdict.PASS),  # p = 2^-6
        (0, 10, 40, AuditVerdict.PASS),  # the other way
        (10, 0, 391, AuditVerdict.PASS),  # certain, and 2.5 points
        (20, 10, 20, AuditVerdict.PASS),  # p = .049
        (0, 0, 50, AuditVerdict.PASS),
    ],
)
def test_a_rival_is_stronger_where_it_is_significantly_and_materially(won, lost, both, verdict):
    """Exact McNemar on the images that one attack alone fools."""
    reference = decisions(*[True] * won, *[False] * lost, *[True] * both)
    rival = decisions(*[False] * won, *[True] * lost, *[True] * both)
    found = AttackComparison.of(reference, rival)
    assert found.verdict == verdict
    assert found.gain.estimate == pytest.approx((won - lost) / (won + lost + both))


@pytest.mark.parametrize(("count", "churn"), [(24, 0.0), (50, 0.02), (200, 0.05), (1000, 0.0)])
def test_the_excess_that_would_have_been_seen_is_seen(count, churn):
    """A rival stronger by just that is not passed in 80 % of 1,000 simulated audits, within 4 points."""
    excess, generator = smallest_excess(count, churn), np.random.default_rng(count)
    assert excess > MATERIAL
    kinds = generator.choice(3, size=(1000, count), p=[excess + churn, churn, 1 - excess - 2 * churn])
    found = [
        AttackComparison.of(decisions(*(row != 1)), decisions(*(row != 0))).verdict != AuditVerdict.PASS
        for row in kinds
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("count", [10, 40, 50, 200, 1000])
def test_the_fewest_wins_that_warn_are_counted(count):
    """So many images that only the rival fools warn, or fail; one fewer passes."""
    needed = wins_to_warn(count)
    for won, warns in ((needed, True), (needed - 1, False)):
        reference = decisions(*[True] * count)
        rival = decisions(*[False] * won, *[True] * (count - won))
        assert (AttackComparison.of(reference, rival).verdict != AuditVerdict.PASS) == warns


@pytest.mark.parametrize(("left", "needed"), [(18, 7), (40, 7), (90, 10), (500, 50)])
def test_trying_a_rival_in_stages_hardly_ever_misses_one_that_would_warn(left, needed):
    """A rival with just enough wins, anywhere in the order, passes in at most 1 %; honest ones stop early."""
    generator = np.random.default_rng(left)
    missed, tried = 0, []
    for _ in range(4000):
        wins = generator.permutation(left) < needed
        missed += try_in_stages(left, needed, lambda count, wins=wins: int(wins[:count].sum()))[1] < needed
        few = generator.random(left) < 0.2 * needed / left
        tried.append(try_in_stages(left, needed, lambda count, few=few: int(few[:count].sum()))[0])
    assert missed <= 4000 * STAGES * MISSED
    assert np.mean(tried) < 0.8 * left


def test_no_rival_is_tried_where_it_cannot_win_enough():
    """Fewer images than would warn: none is looked at; exactly as many: one that stands is enough."""
    never = pytest.fail
    assert try_in_stages(6, 7, never) == (0, 0)
    assert try_in_stages(7, 7, lambda count: count - 1) == (1, 0)


def test_a_rule_that_could_not_have_seen_much_is_inconclusive():
    """A pass becomes inconclusive above the floor; a warning stays; more images take the excess below it."""
    assert judged(AuditVerdict.PASS, FLOOR) == judged(AuditVerdict.PASS, 0.1) == AuditVerdict.PASS
    assert judged(AuditVerdict.PASS, FLOOR + 0.01) == AuditVerdict.INCONCLUSIVE
    assert judged(AuditVerdict.WARN, 1.0) == AuditVerdict.WARN
    assert smallest_excess(10, 0.1) == 1.0
    enough = images_for_floor(10)
    assert smallest_excess(enough, 0.02) <= FLOOR < smallest_excess(enough - 5, 0.02)
    assert [images_for_floor(images) for images in (enough - 1, enough, 1999, 2000)] == [
        enough,
        enough + 5,
        2000,
        2005,
    ]
    ranked = [AuditVerdict.PASS, AuditVerdict.WARN, AuditVerdict.INCONCLUSIVE, AuditVerdict.FAIL]
    for place, verdict in enumerate(ranked):
        assert AuditVerdict.worst(ranked[: place + 1]) == verdict


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (
            AuditVerdict.PASS,
            "PASS net: 38.0 % (31.6-44.9) under pgd linf 0.03; a rival stronger by 9 points would ",
        ),
        (
            AuditVerdict.WARN,
            "may be used with the warnings beside it (more-steps); a rival stronger by 9 points",
        ),
        (
            AuditVerdict.INCONCLUSIVE,
            "only a rival stronger by 9 points would have been seen, and 30 points are ",
        ),
        (AuditVerdict.FAIL, "FAIL net: 38.0 % (31.6-44.9) under pgd linf 0.03 must not be used (more-steps)"),
    ],
)
def test_the_last_line_has_the_number_and_what_could_be_seen(verdict, line):
    """The number that is judged stands in every verdict, and its power in all but a failure."""
    rule = AuditRule("more-steps", verdict, "", {})
    number = Interval(0.38, 0.3156, 0.4489)
    report = AuditReport(
        "net", "", "digits", 200, 0, verdict, (rule,), 1.0, "pgd linf 0.03, 20 steps", number, 0.085
    )
    assert line in verdict_line(report)


def test_finite_differences_agree_with_double_precision():
    """Float error is no part of the rule: in float64 the same network has about the same error."""
    model = rb.load_checkpoint(CHECKPOINTS / "digits-ode.safetensors")
    lab = Lab(model, images(12), SETTINGS)
    single = gradients.finite_differences(lab).numbers["median_0.0001"]
    batch, draws = next(gradients._batches(lab, 1))
    gradient = gradients._gradient(lab, batch, draws, gradients.margin_loss).double()
    model = model.double()
    lab = Lab(model, images(12), SETTINGS)
    exact = replace(batch, images=batch.images.double())
    direction = torch.sign(gradient)
    ahead, behind = (gradients._margin(lab, exact, draws, side * 1e-6 * direction) for side in (1, -1))
    slope = (gradient * direction).flatten(1).sum(1)
    assert (ahead - behind) / 2e-6 == pytest.approx(slope, rel=1e-3)
    assert single < 0.02


def test_agreement_grows_with_draws_and_follows_the_law_of_averages():
    """Untrained, loud noise: four times the draws, four times the ratio, within a factor of two."""
    lab = Lab(make_model("additive", sigma=1.5), make_data(24), SETTINGS)
    numbers = gradients.agreement(lab).numbers
    ratios = numbers["snr"]
    assert numbers["cosine"] == sorted(numbers["cosine"])
    assert numbers["sign_agreement"] == sorted(numbers["sign_agreement"])
    for few, many in itertools.pairwise(ratios):
        assert 2 < many / few < 8


def test_each_attack_is_made_once(monkeypatch):
    """Rules share attacks: the same perturbation on the same model is not made again."""
    model = make_model()
    lab = Lab(model, make_data(), SETTINGS)
    first = lab.records(lab.pgd())
    monkeypatch.setattr(model, "logits", lambda *_: pytest.fail("asked again"))
    assert lab.records(lab.pgd()) is first


def test_a_model_of_somebody_else_skips_what_it_cannot_do():
    """No other noise, no other solver: rules that need them are skipped, with the reason."""

    class Foreign(FixedPath):
        stochastic = True

    lab = Lab(Foreign(make_model()), make_data(), SETTINGS)
    for rule in ("transfer", "solver"):
        with pytest.raises(NotApplicableError, match="cannot be"):
            RULES[rule](lab)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_whole_budget_reaches_any_image(norm):
    """The ball around a black image holds the white one, whatever the norm."""
    lab = Lab(make_model(), make_data(), replace(SETTINGS, norm=norm))
    ball = lab.pgd(eps=lab.whole).budget
    black = torch.zeros_like(to_float(lab.data.images))
    assert torch.equal(ball.project(black, torch.ones_like(black)), torch.ones_like(black))
    assert lab.generous <= lab.whole
    assert len(lab.records(Clean())) == len(lab.data)


@pytest.mark.parametrize(
    ("count", "change", "message"),
    [
        (FEWEST_IMAGES - 1, {}, "fewer than 10"),
        (12, {"eps": 0.0}, "`eps` is 0"),
        (12, {"eps": -1.0}, "between 0 and 1"),
        (12, {"steps": 0}, "at least 1"),
        (12, {"eot_draws": 0}, "at least 1"),
        (12, {"norm": "l3"}, "unknown norm"),
    ],
)
def test_settings_that_cannot_be_audited(count, change, message):
    """Said before any attack runs."""
    with pytest.raises(BenchError, match=message):
        Lab(make_model(), make_data(count), replace(SETTINGS, **change))
