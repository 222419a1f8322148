"""The masking audit: every rule tried on one model."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.audit import attacks, gradients
from robustbench_sde.evaluation.audit.compare import accuracy
from robustbench_sde.evaluation.audit.lab import AuditSettings, Finding, Lab, NotApplicableError
from robustbench_sde.evaluation.audit.report import AuditReport, AuditRule, AuditVerdict
from robustbench_sde.evaluation.audit.solver import solver
from robustbench_sde.evaluation.repeat import unchanged
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.progress import Bars

#: Rules by name, in the order of the report: what is wrong at the root comes first.
RULES: Mapping[str, Callable[[Lab], Finding]] = MappingProxyType(
    {
        "eps-0-control": attacks.control,
        "same-forward": gradients.same_forward,
        "usable-gradients": gradients.usable,
        "finite-differences": gradients.finite_differences,
        "gradient-agreement": gradients.agreement,
        "iterative": attacks.iterative,
        "monotone": attacks.monotone,
        "unbounded": attacks.unbounded,
        "black-box": attacks.black_box,
        "random-noise": attacks.random_noise,
        "transfer": attacks.transfer,
        "fixed-path": attacks.fixed_path,
        "more-steps": attacks.more_steps,
        "more-draws": attacks.more_draws,
        "more-restarts": attacks.more_restarts,
        "solver": solver,
    }
)


def audit(
    model: RandomClassifier,
    data: ImageDataset,
    settings: AuditSettings | None = None,
    *,
    sha256: str = "",
    planned: Callable[[AuditReport], object] | None = None,
    bars: Bars | None = None,
) -> AuditReport:
    """Try every rule on a model.

    Args:
        model: classifier.
        data: images, at least 10.
        settings: attack and scoring whose number is audited; None: the defaults of `sde-bench attack`.
        sha256: hash of the model's checkpoint, for the report.
        planned: function that is called with the report, without verdicts, before anything is attacked.
        bars: progress of rules, and of the images of the current attack.

    Raises:
        BenchError: too few images, a setting is out of range, or the data do not fit the model.
    """
    settings, bars = settings or AuditSettings(), bars or Bars()
    started = time.perf_counter()
    lab = Lab(model, data, settings, progress=bars.images)
    report = AuditReport(
        checkpoint=model.name,
        sha256=sha256,
        dataset=data.name,
        images=len(data),
        seed=settings.score.seed,
        verdict=AuditVerdict.SKIP,
        rules=(),
        seconds=0.0,
        setting=f"{settings}{_noise(model)}",
    )
    if planned is not None:
        planned(report)
    bars.cells.start("rules", len(RULES))
    rules: list[AuditRule] = []
    try:
        with unchanged(model, data):
            for name, judge in RULES.items():
                bars.cells.advance(0, note=name)
                rules.append(AuditRule(name, *_judged(judge, lab)))
                bars.cells.advance(1)
    except InvalidEvaluationError as error:  # all comparisons are of different classifiers
        rules = [AuditRule("eps-0-control", AuditVerdict.FAIL, str(error), {}), *rules[1:]]
    return replace(
        report,
        verdict=AuditVerdict.worst(rule.verdict for rule in rules),
        rules=tuple(rules),
        seconds=time.perf_counter() - started,
        accuracy=_number(lab),
        seen=max(
            (float(seen) for rule in rules if isinstance(seen := rule.numbers.get("seen"), float)),
            default=None,
        ),
    )


def _number(lab: Lab) -> Interval | None:
    """Return the accuracy that is audited; None if the attack cannot be made or scored."""
    try:
        return accuracy(lab.records(lab.pgd()))
    except (NotApplicableError, InvalidEvaluationError):
        return None


def _noise(model: RandomClassifier) -> str:
    """Describe the noise in a report: its scale, or only its kind if the scale is not one number."""
    if not model.stochastic:
        return ""
    return f", noise {model.noise}" if math.isnan(model.sigma) else f", sigma {model.sigma:g}"


def _judged(judge: Callable[[Lab], Finding], lab: Lab) -> Finding:
    try:
        return judge(lab)
    except NotApplicableError as reason:
        return Finding(AuditVerdict.SKIP, str(reason), {})
    except InvalidEvaluationError as error:
        return Finding(AuditVerdict.FAIL, str(error), {})
