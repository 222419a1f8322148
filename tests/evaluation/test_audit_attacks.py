"""Attacks that the rules of the audit compare, and what they say about them."""

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_data, make_model
from scipy.stats import hypergeom
from slope import Slope

from robustbench_sde.data import to_float
from robustbench_sde.evaluation.audit.attacks import AnotherStart
from robustbench_sde.evaluation.audit.audit import RULES, audit
from robustbench_sde.evaluation.audit.compare import MISSED, smallest_excess
from robustbench_sde.evaluation.audit.lab import AuditSettings, Lab
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.fixed_path import FixedPath
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.sde.draws import KeyedRandom, Stream

SETTINGS = AuditSettings(norm="l2", eps=0.25, steps=3, eot_draws=2, score=ScoreSettings(draws=2))


def attack(name="pgd", **changes):
    """The attack that is audited, with changes."""
    known = {"norm": "l2", "eps": 0.25, "eot_draws": 2} | ({"steps": 3} if name == "pgd" else {})
    return make_attack(name, **known | changes)


def decisions(right, rows=None):
    """So many of 40 images are right; only those at some positions are asked for."""
    return pd.DataFrame({"correct": np.arange(40) < right}).loc[range(40) if rows is None else rows]


class Asked(Lab):
    """Notes which attacks are asked for; so many of 40 images are right under the first, the next, ..."""

    def __init__(self, *right):
        super().__init__(make_model(), make_data(40), SETTINGS)
        self.right, self.asked = right, []

    def records(self, perturbation, *, made_on=None, scored_by=None, rows=None):
        """Return decisions."""
        if perturbation not in self.asked:
            self.asked.append(perturbation)
        return decisions(self.right[self.asked.index(perturbation)], rows)


PAIRS = {
    "iterative": (attack(), attack(steps=1, step_size=0.25, random_start=False), "one step", "3 steps"),
    "black-box": (attack(eps=1.0), attack("square", eps=1.0, steps=100), "square at eps 1", "gradients"),
    "random-noise": (attack(eps=1.0), attack("noise", eps=1.0), "random noise at eps 1", "gradients"),
    "more-steps": (attack(), attack(steps=6), "pgd with 6 steps", "with 3"),
    "more-draws": (attack(), attack(eot_draws=4), "pgd with 4 draws", "with 2"),
    "more-restarts": (attack(), attack(restarts=2), "pgd with 2 restarts", "with 1"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_rule_compares_an_attack_with_its_rival(name):
    """The rival fools ten more of 40 images: that fails, and the message has both accuracies and p."""
    reference, rival, rivals_name, references_name = PAIRS[name]
    lab = Asked(30, 20, 20)
    found = RULES[name](lab)
    assert [made for made in lab.asked if not isinstance(made, AnotherStart)] == [reference, rival]
    assert found.verdict == AuditVerdict.FAIL
    assert found.message == (
        f"{rivals_name} leaves 50.0 % (35.2-64.8), {references_name} 75.0 % (59.8-85.8), p = 0.00098; "
        "22 points more would have been seen"
    )
    assert found.numbers["p"] == pytest.approx(2.0**-10)


def test_a_smaller_budget_must_not_be_stronger():
    """Every budget is compared with the next smaller one; the worst pair decides."""
    lab = Asked(38, 20, 30, 30)
    found = RULES["monotone"](lab)
    assert lab.asked == [Clean(), attack(), attack(eps=1.0), attack(eps=0.125)]
    assert found.numbers["eps"] == [0.0, 0.25, 1.0]
    assert found.numbers["accuracy"] == [0.95, 0.5, 0.75]
    assert found.numbers["won"] == [0, 10]
    assert found.verdict == AuditVerdict.FAIL
    assert found.message.startswith("by eps 0: 95.0 % (83.5-98.6), 0.25: 50.0 % (35.2-64.8), 1: 75.0 % ")


def test_half_the_budget_must_not_be_stronger():
    """Half of eps is tried on what eps leaves: ten images more of 40 fail, and then on all of them."""
    found = RULES["monotone"](Asked(40, 30, 0, 20))
    assert found.verdict == AuditVerdict.FAIL
    assert found.numbers["won"] == [10, 0]


def test_clean_images_must_not_be_wrong_where_attacked_ones_are_right():
    """If enough clean images are wrong for a warning, they are compared with the smallest budget, too."""
    lab = Asked(33, 33, 33, 40)  # seven clean images are wrong and right at half of eps
    found = RULES["monotone"](lab)
    assert (found.numbers["won"][0], found.verdict) == (7, AuditVerdict.WARN)
    assert len(RULES["monotone"](Asked(34, 34, 34, 40)).numbers["won"]) == 2  # six could not warn


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - {"more-restarts"}))
def test_a_rival_of_an_attack_that_leaves_few_images_is_not_tried(name):
    """No rival can win seven images where only six are left: it passes, and nothing is computed for it."""
    reference, _, rivals_name, references_name = PAIRS[name]
    lab = Asked(6)
    found = RULES[name](lab)
    assert lab.asked == [reference]
    assert (found.verdict, found.numbers["tried"]) == (AuditVerdict.PASS, 0)
    assert found.message == (
        f"{references_name} 15.0 % (7.1-29.1): {rivals_name} is not tried, since a warning takes 7 and "
        "6 images are left; "
        "22 points more would have been seen"
    )


def test_a_rival_that_wins_nothing_is_tried_on_a_part():
    """Among 20 images that are left the first ten of a random order decide; the power is as with all."""
    found = RULES["more-steps"](Asked(20, 20))
    assert found.verdict == AuditVerdict.PASS
    tried = int(found.numbers["tried"])
    assert 0 < tried < 20
    assert hypergeom.cdf(0, 20, 7, tried) <= MISSED < hypergeom.cdf(0, 20, 7, tried - 1)
    assert found.numbers["seen"] == smallest_excess(40, 0.0)
    assert found.message.startswith(
        f"with 3 50.0 % (35.2-64.8): pgd with 6 steps fools none of {tried} tried of 20 left, "
        "a warning takes 7; "
    )


def flat(data):
    """A victim without any gradient: attacks stay where they start."""
    return Slope(to_float(data.images), lead=1.0, weights=0.0)


def test_a_second_start_alone_is_tried_before_both():
    """It starts at the point of a second restart, and if it wins nothing, two restarts are not made."""
    lab = Asked(20, 20)
    found = RULES["more-restarts"](lab)
    assert lab.asked[0] == attack()
    (_, again) = lab.asked
    assert isinstance(again, AnotherStart)
    assert found.message.startswith("one 50.0 % (35.2-64.8): a second start fools none of ")
    data = make_data(4)
    images = to_float(data.images)
    twice = attack(steps=1, step_size=1e-9, settle=False, restarts=2)
    starts = [
        make.run_in(twice.budget, flat(data), images, KeyedRandom(0, Stream.ATTACK, "start/pgd"), restart)
        for make, restart in (
            (twice, 1),
            (AnotherStart(norm="l2", eps=0.25, steps=1, step_size=1e-9, settle=False), 0),
        )
    ]
    assert torch.equal(*starts)


class Exchanged(Asked):
    """Three of 40 images fall to the rival alone and three to the attack alone."""

    def records(self, perturbation, *, made_on=None, scored_by=None, rows=None):
        """Return decisions: images 0 to 19 stand under the attack, 3 to 22 under the rival."""
        place = np.arange(40)
        right = place < 20 if perturbation == self.pgd() else (place >= 3) & (place < 23)
        return pd.DataFrame({"correct": right}).loc[range(40) if rows is None else rows]


def test_a_power_in_doubt_is_computed_on_all_images():
    """A rival that wins is tried on all images, and many exchanges leave too little power."""
    found = RULES["more-steps"](Exchanged())
    assert found.verdict == AuditVerdict.INCONCLUSIVE
    assert found.numbers["seen"] == smallest_excess(40, 3 / 40)
    assert found.numbers["rival"][0] == 0.5


def test_attacks_through_the_noise_are_compared_with_attacks_around_it(monkeypatch):
    """Images made without noise are scored with it; a known path scores both attacks on it."""
    calls = []
    lab = Asked(30, 30)
    monkeypatch.setattr(
        lab,
        "records",
        lambda perturbation, **which: calls.append(which) or Asked.records(lab, perturbation, **which),
    )
    RULES["transfer"](lab)
    silent = calls[1]["made_on"]
    assert (silent.noise, lab.model.noise) == ("none", "multiplicative")
    assert calls[0] == {}
    assert all(call.pop("rows") and call == {"made_on": silent} for call in calls[1:])
    assert lab.asked == [attack(), attack(settle=False)]  # another network has another boundary
    calls.clear()
    RULES["fixed-path"](lab)
    path = calls[0]["made_on"]
    assert isinstance(path, FixedPath)
    assert calls == [{"made_on": path, "scored_by": path}, {"scored_by": path}]


def test_an_audit_tells_what_it_was_about():
    """The report names the attack, the scoring and the noise, before its rules and after them."""
    planned = []
    model, data = make_model("none"), make_data(10)
    report = audit(model, data, SETTINGS, sha256="sha256:aa", planned=planned.append)
    assert report.setting == ("pgd l2 0.25, 3 steps, 2 draws a gradient, 2 score draws (mean-prob)")
    assert [rule.name for rule in report.rules] == list(RULES)
    assert (planned[0].setting, planned[0].rules, planned[0].seconds) == (report.setting, (), 0.0)
    assert planned[0].verdict == AuditVerdict.SKIP
    assert 0 < report.seconds < 600
    said = {rule.name: rule.message for rule in report.rules if rule.verdict == AuditVerdict.SKIP}
    assert said == {
        "gradient-agreement": "all draws are the same",
        "transfer": "there is no noise to switch off",
        "fixed-path": "there is no noise to fix",
        "more-draws": "all draws are the same",
    }
    assert report.seen == max(rule.numbers.get("seen", 0.0) for rule in report.rules)
    lab = Lab(model, data, SETTINGS)
    assert report.accuracy.estimate == lab.records(lab.pgd())["correct"].mean()


class Solved(Asked):
    """So many of 40 images are right where another solver scores them, and where another has made them."""

    def __init__(self, scored, made):
        super().__init__()
        self.scored, self.made = scored, made

    def records(self, perturbation, *, made_on=None, scored_by=None, rows=None):
        """Return decisions; 30 images are right under the attack on the network itself."""
        right = self.made if made_on else self.scored if scored_by and perturbation != Clean() else 30
        return decisions(right, rows)


@pytest.mark.parametrize(
    ("scored", "made", "verdict"),
    [
        (30, 30, AuditVerdict.PASS),
        (20, 30, AuditVerdict.WARN),
        (40, 30, AuditVerdict.WARN),
        (30, 20, AuditVerdict.FAIL),
        (30, 40, AuditVerdict.PASS),
    ],
)
def test_another_solver_may_neither_score_differently_nor_attack_better(scored, made, verdict):
    """Ten images more or fewer are beyond chance; images that fool the network less are no reason to warn."""
    assert RULES["solver"](Solved(scored, made)).verdict == verdict


@pytest.mark.parametrize("random", [True, False])
def test_solvers_are_compared_at_points_that_are_beyond_a_boundary(random):
    """Without noise the attack goes on where it would stop at the first misclassified point."""
    lab = Asked(30)
    lab.model = make_model("multiplicative" if random else "none")
    RULES["solver"](lab)
    assert lab.asked[0] == (attack() if random else attack(settle=False))
