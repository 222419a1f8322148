"""Rules about attacks: which one must not beat which (Carlini et al. 2019; Athalye et al. 2018)."""

import itertools
from dataclasses import fields

from scipy.optimize import brentq
from scipy.stats import binom, binomtest
from torch import Tensor

from robustbench_sde.evaluation.audit.compare import (
    ALPHA_FAIL,
    ALPHA_WARN,
    AttackComparison,
    accuracy,
    judged,
    percent,
    seen_in_words,
    try_in_stages,
    wins_to_warn,
)
from robustbench_sde.evaluation.audit.lab import Finding, Lab, NotApplicableError
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.cell import check_control
from robustbench_sde.evaluation.paired import POWER
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.fixed_path import FixedPath
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.attacks.pgd import PGD
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.norms import Ball
from robustbench_sde.sde.draws import KeyedRandom

#: Queries of the black box, each of `eot_draws` draws.
_QUERIES = 100


class AnotherStart(PGD):
    """The audited attack from the random point at which its second restart begins."""

    name = "pgd, second start"

    def run_in(self, ball: Ball, victim: Victim, images: Tensor, start: KeyedRandom, restart: int) -> Tensor:
        return super().run_in(ball, victim, images, start, restart + 1)


def control(lab: Lab) -> Finding:
    """Check that the attack with eps 0 gives the clean records, number by number."""
    clean, powerless = lab.records(Clean()), lab.records(Control(lab.pgd()))
    check_control(clean, powerless)  # raises
    found = accuracy(clean)
    return Finding(AuditVerdict.PASS, f"eps 0 equals clean: {percent(found)}", {"accuracy": list(found)})


def iterative(lab: Lab) -> Finding:
    """Check that one step of size eps is not stronger than the whole attack."""
    one_step = lab.pgd(steps=1, step_size=lab.settings.eps, random_start=False)
    comparison = lab.compare(lab.records(lab.pgd()), one_step)
    return _finding(comparison, "one step", f"{lab.settings.steps} steps")


def monotone(lab: Lab) -> Finding:
    """Check that a smaller budget is not stronger than a larger one."""
    least, *others = sorted({lab.settings.eps / 2, lab.settings.eps, lab.generous})
    clean, records = lab.records(Clean()), [lab.records(lab.pgd(eps=eps)) for eps in others]
    smallest = lab.pgd(eps=least)
    pairs = [lab.compare(records[0], smallest)]
    pairs += [AttackComparison.of(large, small) for small, large in itertools.pairwise(records)]
    if int((~clean["correct"]).sum()) >= wins_to_warn(len(clean)):  # clean images could be more often wrong
        pairs.insert(0, AttackComparison.of(lab.records(smallest), clean))
    levels = list(zip((0.0, *others), (clean, *records), strict=True))
    course = ", ".join(f"{eps:.4g}: {percent(accuracy(at))}" for eps, at in levels)
    seen = max(pair.seen for pair in pairs)
    numbers: dict[str, float | list[float] | str] = {
        "eps": [0.0, *others],
        "accuracy": [accuracy(at).estimate for _, at in levels],
        "won": [float(pair.won) for pair in pairs],
        "tried": [float(pair.tried) for pair in pairs],
        "seen": seen,
    }
    verdict = judged(AuditVerdict.worst(pair.verdict for pair in pairs), seen)
    half = pairs[-len(others)].in_words(f"eps {least:.4g}", f"eps {others[0]:.4g}")
    return Finding(verdict, f"by eps {course}; {half}; {seen_in_words(seen)}", numbers)


def unbounded(lab: Lab) -> Finding:
    """Check that a budget that reaches every image leaves chance or less.

    The attack starts at the image: a random point of so large a ball would fool the model without gradients.
    It runs on as few images as decide.
    """
    attack, images, chance = lab.pgd(eps=lab.whole, random_start=False), len(lab.data), 1 / lab.model.classes

    def right(count: int) -> int:
        return int(lab.records(attack, rows=sorted(lab.order[:count]))["correct"].sum())

    needed = next(count for count in range(images + 2) if binom.sf(count - 1, images, chance) <= ALPHA_WARN)
    tried, standing = try_in_stages(images, needed, right)
    if standing >= needed:
        tried, standing = images, right(images)
    found = wilson(standing / tried, tried)
    p = float(binomtest(standing, tried, chance, alternative="greater").pvalue)
    verdict = AuditVerdict.FAIL if p <= ALPHA_FAIL else AuditVerdict.WARN
    verdict = verdict if standing >= needed else AuditVerdict.PASS
    seen = _excess_over_chance(images, chance)
    some = "" if tried == images else f" of {tried} images"
    message = (
        f"eps {lab.whole:.4g} leaves {percent(found)}{some}, chance is {100 * chance:.1f} %, p = {p:.2g}; "
        f"{seen_in_words(seen)}"
    )
    numbers: dict[str, float | list[float] | str] = {
        "accuracy": list(found),
        "chance": chance,
        "p": p,
        "seen_over_chance": seen,
    }
    return Finding(judged(verdict, seen), message, numbers)


def _excess_over_chance(images: int, chance: float) -> float:
    """Return the smallest true excess over chance that warns with a probability of `POWER`.

    From `FEWEST_IMAGES` images of two classes on there is one, as a model that is always right warns.
    """
    critical = binom.isf(ALPHA_WARN, images, chance)

    def lacking(excess: float) -> float:
        return float(binom.sf(critical, images, chance + excess)) - POWER

    return float(brentq(lacking, 0.0, 1 - chance))


def black_box(lab: Lab) -> Finding:
    """Check that square, which uses no gradients, is not stronger than pgd at four times eps."""
    square = lab.attack("square", eps=lab.generous, steps=_QUERIES)
    comparison = lab.compare(lab.records(lab.pgd(eps=lab.generous)), square)
    return _finding(comparison, f"square at eps {lab.generous:.4g}", "gradients")


def random_noise(lab: Lab) -> Finding:
    """Check that the worst of ten random points is not stronger than pgd at four times eps."""
    comparison = lab.compare(lab.records(lab.pgd(eps=lab.generous)), lab.attack("noise", eps=lab.generous))
    return _finding(comparison, f"random noise at eps {lab.generous:.4g}", "gradients")


def transfer(lab: Lab) -> Finding:
    """Check that images attacked on the network without noise fool it no better.

    That network has another boundary: the attack goes on beyond it.
    """
    if not lab.model.stochastic:
        raise NotApplicableError("there is no noise to switch off")
    without = lab.model.without_noise()
    if without is None:
        raise NotApplicableError("the noise of this model cannot be switched off")
    comparison = lab.compare(lab.records(lab.pgd()), lab.beyond_boundaries(), made_on=without)
    return _finding(comparison, "from sigma = 0", "direct")


def more_steps(lab: Lab) -> Finding:
    """Check that twice the steps are not stronger: the attack has converged."""
    return _doubled(lab, "steps", lab.settings.steps)


def more_draws(lab: Lab) -> Finding:
    """Check that twice the draws in a gradient are not stronger."""
    if not lab.model.stochastic:
        raise NotApplicableError("all draws are the same")
    return _doubled(lab, "eot_draws", lab.settings.eot_draws)


def more_restarts(lab: Lab) -> Finding:
    """Check that twice the restarts are not stronger.

    The second start alone comes first: an image that it does not fool either is not won by both.
    """
    once = lab.pgd()
    again = AnotherStart(**{field.name: getattr(once, field.name) for field in fields(once) if field.init})
    alone = lab.compare(lab.records(once), again)
    return _doubled(lab, "restarts", 1) if alone.won else _finding(alone, "a second start", "one")


def fixed_path(lab: Lab) -> Finding:
    """Check that an attack that knows the one noise path that scores is not weaker than one that does not."""
    if not lab.model.stochastic:
        raise NotApplicableError("there is no noise to fix")
    fixed = FixedPath(lab.model)
    known = lab.records(lab.pgd(), made_on=fixed, scored_by=fixed)
    unknown = lab.records(lab.pgd(), scored_by=fixed)
    return _finding(AttackComparison.of(known, unknown), "not knowing the path", "knowing it")


def _doubled(lab: Lab, name: str, value: int) -> Finding:
    comparison = lab.compare(lab.records(lab.pgd()), lab.pgd(**{name: 2 * value}))
    return _finding(comparison, f"pgd with {2 * value} {name.removeprefix('eot_')}", f"with {value}")


def _finding(comparison: AttackComparison, rival: str, reference: str) -> Finding:
    message = f"{comparison.in_words(rival, reference)}; {seen_in_words(comparison.seen)}"
    return Finding(judged(comparison.verdict, comparison.seen), message, comparison.numbers)
