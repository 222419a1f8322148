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
)
from robustbench_sde.evaluation.audit.lab import Finding, Lab, NotApplicableError
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.models.protocol import RandomClassifier
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
    direct = lab.records(lab.pgd())
    verdicts, course = [AuditVerdict.PASS], [f"{_name(own)} {percent(accuracy(direct))}"]
    numbers: dict[str, float | list[float] | str] = {f"direct on {_name(own)}": list(accuracy(direct))}
    seen = 0.0
    for variant in variants:
        clean = accuracy(lab.records(Clean(), scored_by=variant))
        scored = lab.records(lab.pgd(), scored_by=variant)
        either_way = AttackComparison.of(direct, scored).verdict, AttackComparison.of(scored, direct).verdict
        if either_way != (AuditVerdict.PASS, AuditVerdict.PASS):
            verdicts.append(AuditVerdict.WARN)
        found = {"clean": clean, "scored there": accuracy(scored)}
        if variant.steps != 4 * own.steps:  # making images in 4 N steps costs four attacks
            made = lab.records(lab.pgd(), made_on=variant)
            comparison = AttackComparison.of(direct, made)
            verdicts.append(comparison.verdict)
            seen = max(seen, comparison.seen)
            found["made there"] = accuracy(made)
        numbers |= {f"{what} on {_name(variant)}": list(at) for what, at in found.items()}
        remarks = ", ".join(f"{what} {100 * at.estimate:.1f} %" for what, at in found.items())
        course.append(f"{_name(variant)}: {remarks}")
    numbers["seen"] = seen
    return Finding(
        judged(AuditVerdict.worst(verdicts), seen), "; ".join([*course, seen_in_words(seen)]), numbers
    )


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
