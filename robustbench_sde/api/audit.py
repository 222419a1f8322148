"""`audit`: can a robustness number be trusted?"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from robustbench_sde.api.arguments import Budget, Data, Numbers, budget_of, dataset_of, norm_of
from robustbench_sde.api.models import Model, compute_of, sources_of
from robustbench_sde.api.progress import shown
from robustbench_sde.choices import DecisionRule
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.audit import audit as rules
from robustbench_sde.evaluation.audit.lab import AuditSettings
from robustbench_sde.evaluation.audit.report import AuditReport
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.memory import rows_that_fit
from robustbench_sde.progress import Bars
from robustbench_sde.reporting import notebook as notebook  # teaches reports to show themselves
from robustbench_sde.runs.sources import LiveSource
from robustbench_sde.sde.heap import keep_freed_memory


def audit(
    model: Model,
    data: Data,
    *,
    norm: str = "linf",
    eps: Budget | None = None,
    steps: int = 20,
    eot_draws: int = 8,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    smoothing: Numbers | None = None,
    score_draws: int | Literal["auto"] = 32,
    rule: DecisionRule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    planned: Callable[[AuditReport], object] | None = None,
    progress: bool = False,
    bars: Bars | None = None,
) -> AuditReport:
    """Check whether an accuracy under attack can be trusted: look for masked gradients (docs/audit.md).

    Args:
        model: one model, as in `attack`.
        data: images, or a data set by name, as in `attack`; at least 10 images, and 50 are enough for most
            faults.
        norm: norm of the audited pgd, `linf` or `l2`.
        eps: budget of the audited pgd, for images in [0, 1]; None is 0.03 (linf) or 0.5 (l2).
        steps: number of steps of the audited pgd.
        eot_draws: number of fresh draws that the audited pgd averages in every gradient.
        sigma: as in `attack`.
        noise: as in `attack`.
        precision: as in `attack`.
        smoothing: as in `attack`.
        score_draws: as in `attack`.
        rule: as in `attack`.
        seed: as in `attack`.
        batch_size: as in `attack`.
        device: as in `attack`.
        planned: function that is called with the report, without verdicts, before anything is attacked.
        progress: as in `attack`.
        bars: receiver of progress, of rules and of the images of the present attack.

    Returns:
        The verdict of the audit, and for every rule its verdict, a sentence and its numbers. The method
        `write` writes the report into a folder.

    Raises:
        BenchError: too few images, an argument is wrong, or the data do not fit the model.
    """
    data, norm = dataset_of(data), norm_of(norm) or norm
    asked = budget_of(eps, norm)
    budget = asked if asked is not None else 0.5 if norm == "l2" else 0.03
    score = ScoreSettings(score_draws, rule, seed, batch_size)
    compute = compute_of(device)
    source, *more = sources_of(
        model, data, sigma=sigma, noise=noise, precision=precision, smoothing=smoothing
    )
    if more:
        raise BenchError("an audit takes exactly one classifier: name one, with one value of `smoothing`")
    keep_freed_memory()
    classifier = source.load(compute)
    rows = min(batch_size, rows_that_fit(classifier, compute.memory_limit) or batch_size)
    settings = AuditSettings(norm, budget, steps, eot_draws, replace(score, rows=rows))
    sha256 = "" if isinstance(source, LiveSource) else source.sha256
    with shown(progress, bars) as bars:
        return rules.audit(classifier, data, settings, sha256=sha256, planned=planned, bars=bars)
