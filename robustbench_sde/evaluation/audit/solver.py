"""Rule about the solver: does the robustness belong to the network, or to its discretisation?

Adaptive and coarse solvers mask gradients (Huang et al., PMLR 145), and changing the solver between attack
and test changes what an attack achieves (Carrara et al. 2019).
"""

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.audit.compare import (
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
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.base import Clean

#: Other solvers, the best first; the first that is not the model's own and takes its noise is tried.
_OTHERS = ("heun", "rk4", "milstein", "euler")


def solver(lab: Lab) -> Finding:
    """Check that no other discretisation makes a stronger attack, and that all score its attack alike.

    The rule fails if images made with N/2 or 2N steps or another solver fool the model better than images
    made on it: its own gradients are masked. It warns if N/2, 2N, 4N steps or another solver score the
    attacked images differently.
    """
    own = lab.model
    variants = _variants(own)
    if not variants:
        raise NotApplicableError("the solver of this model cannot be changed")
    attack = lab.pgd() if own.stochastic else lab.beyond_boundaries()
    direct = lab.records(attack)
    verdicts, course = [AuditVerdict.PASS], [f"{_name(own)} {percent(accuracy(direct))}"]
    numbers: dict[str, float | list[float] | str] = {f"direct on {_name(own)}": list(accuracy(direct))}
    seen = 0.0
    for variant in variants:
        name, verdict, tried, otherwise = _name(variant), *_scored_there(lab, attack, variant)
        verdicts.append(verdict)
        numbers[f"decided otherwise on {name}"] = list(wilson(otherwise / tried, tried))
        remarks = [f"decides {otherwise} of {tried} otherwise"]
        if verdict is not AuditVerdict.PASS:
            at = accuracy(lab.records(attack, scored_by=variant))
            clean = accuracy(lab.records(Clean(), scored_by=variant))
            numbers |= {f"scored there on {name}": list(at), f"clean on {name}": list(clean)}
            remarks.append(f"leaves {percent(at)}, of clean images {percent(clean)}")
        if variant.steps != 4 * own.steps:  # making images in 4 N steps costs four attacks
            comparison = lab.compare(direct, attack, made_on=variant)
            verdicts.append(comparison.verdict)
            seen = max(seen, comparison.seen)
            numbers[f"won by images of {name}"] = float(comparison.won)
            remarks.append(f"images made there fool {comparison.won} of {comparison.tried}")
            if comparison.rival is not None:
                numbers[f"made there on {name}"] = list(comparison.rival)
                remarks[-1] += f" and leave {percent(comparison.rival)}"
        course.append(f"{name} {', '.join(remarks)}")
    numbers["seen"] = seen
    return Finding(
        judged(AuditVerdict.worst(verdicts), seen), "; ".join([*course, seen_in_words(seen)]), numbers
    )


def _scored_there(lab: Lab, attack: Attack, variant: RandomClassifier) -> tuple[AuditVerdict, int, int]:
    """Return whether another solver scores the attacked images alike, on how many, and how many it does not.

    As few images, in random order, as decide: all of them only where the verdict may be a warning.
    """
    direct = lab.records(attack)

    def exchanged(count: int) -> tuple[int, int]:
        rows = sorted(lab.order[:count])
        here = direct["correct"].iloc[rows].to_numpy()
        there = lab.records(attack, scored_by=variant, rows=rows)["correct"].to_numpy()
        return int((here & ~there).sum()), int((~here & there).sum())

    needed = wins_to_warn(len(direct))
    tried, most = try_in_stages(len(direct), needed, lambda count: max(exchanged(count)))
    if most < needed:
        return AuditVerdict.PASS, tried, sum(exchanged(tried))
    scored = lab.records(attack, scored_by=variant)
    either_way = AttackComparison.of(direct, scored).verdict, AttackComparison.of(scored, direct).verdict
    alike = either_way == (AuditVerdict.PASS, AuditVerdict.PASS)
    verdict = AuditVerdict.PASS if alike else AuditVerdict.WARN
    return verdict, len(direct), sum(exchanged(len(direct)))


def _variants(model: RandomClassifier) -> list[RandomClassifier]:
    """Return the network in N/2, 2N, 4N steps, and by another solver if one takes its noise."""
    counts = [count for count in (model.steps // 2, 2 * model.steps, 4 * model.steps) if count]
    variants = [model.with_solver(steps=count) for count in counts]
    for name in _OTHERS:
        if name != model.solver:
            try:
                variants.append(model.with_solver(solver=name))
                break
            except BenchError:  # it does not take this noise
                continue
    return [variant for variant in variants if variant is not None]


def _name(model: RandomClassifier) -> str:
    return f"{model.solver} N={model.steps}"
