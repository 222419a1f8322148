"""Attacks that the rules of the audit compare, and what they say about them."""

import numpy as np
import pandas as pd
import pytest
from builders import make_data, make_model

from robustbench_sde.evaluation.audit.audit import RULES, audit
from robustbench_sde.evaluation.audit.lab import AuditSettings, Lab
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.fixed_path import FixedPath
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean

SETTINGS = AuditSettings(norm="l2", eps=0.25, steps=3, eot_draws=2, score=ScoreSettings(draws=2))


def attack(name="pgd", **changes):
    """The attack that is audited, with changes."""
    known = {"norm": "l2", "eps": 0.25, "eot_draws": 2} | ({"steps": 3} if name == "pgd" else {})
    return make_attack(name, **known | changes)


class Asked(Lab):
    """Notes which attacks are asked for; so many of 40 images are right under the first, the next, ..."""

    def __init__(self, *right):
        super().__init__(make_model(), make_data(40), SETTINGS)
        self.right, self.asked = right, []

    def records(self, perturbation, *, made_on=None, scored_by=None):
        """Return decisions."""
        if perturbation not in self.asked:
            self.asked.append(perturbation)
        right = self.right[self.asked.index(perturbation)]
        return pd.DataFrame({"correct": np.arange(40) < right})


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
    lab = Asked(30, 20)
    found = RULES[name](lab)
    assert lab.asked == [reference, rival]
    assert found.verdict == AuditVerdict.FAIL
    assert found.message == (
        f"{rivals_name} leaves 50.0 % (35.2-64.8), {references_name} 75.0 % (59.8-85.8), p = 0.00098; "
        "22 points more would have been seen"
    )
    assert found.numbers["p"] == pytest.approx(2.0**-10)


def test_a_smaller_budget_must_not_be_stronger():
    """Every budget is compared with the next smaller one; the worst pair decides."""
    lab = Asked(38, 30, 20, 30)
    found = RULES["monotone"](lab)
    assert lab.asked == [Clean(), attack(eps=0.125), attack(), attack(eps=1.0)]
    assert found.numbers["eps"] == [0.0, 0.125, 0.25, 1.0]
    assert found.numbers["accuracy"] == [0.95, 0.75, 0.5, 0.75]
    assert found.numbers["p"] == pytest.approx([1.0, 1.0, 2.0**-10])
    assert found.verdict == AuditVerdict.FAIL
    assert found.message.startswith("by eps 0: 95.0 % (83.5-98.6), 0.125: 75.0 % (59.8-85.8), 0.25: 50.0 % ")


def test_attacks_through_the_noise_are_compared_with_attacks_around_it(monkeypatch):
    """Images made without noise are scored with it; a known path scores both attacks on it."""
    calls = []
    lab = Asked(30)
    monkeypatch.setattr(
        lab, "records", lambda perturbation, **which: calls.append(which) or Asked.records(lab, perturbation)
    )
    RULES["transfer"](lab)
    silent = calls[0]["made_on"]
    assert (silent.noise, lab.model.noise) == ("none", "multiplicative")
    assert calls == [{"made_on": silent}, {}]
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

    def records(self, perturbation, *, made_on=None, scored_by=None):
        """Return decisions; 30 images are right under the attack on the network itself."""
        right = self.made if made_on else self.scored if scored_by and perturbation != Clean() else 30
        return pd.DataFrame({"correct": np.arange(40) < right})


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
