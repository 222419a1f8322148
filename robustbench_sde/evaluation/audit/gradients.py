"""Rules about gradients, on the clean images and draws of the `audit` stream."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from robustbench_sde.data import to_float
from robustbench_sde.evaluation.audit.compare import percent
from robustbench_sde.evaluation.audit.lab import Finding, Lab, NotApplicableError
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.probabilities import log_mean
from robustbench_sde.perturbations.attacks.losses import Objective, cross_entropy, margin_loss
from robustbench_sde.perturbations.base import Batch
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream

#: Logits of the two passes of `same_forward` differ by no more, relative to the largest.
_SAME = 1e-3
#: Share of images without a usable gradient that fails a model.
_UNUSABLE = 0.05
#: Random directions of a derivative.
_DIRECTIONS = 4
#: Changes of every value along them, with the median relative errors that warn and that fail. A quarter of a
#: grey level is what an attack sees (staircases), but ReLUs change sides on the way: honest networks measure
#: 0.03 to 0.08, and 0.005 to 0.02 with a tenth of it, where float32 does not matter yet.
_STEPS = ((1e-3, 0.2, 0.5), (1e-4, 0.05, 0.5))
#: Numbers of images whose derivatives are looked at first, and how many of them may be above the bound of a
#: warning: if half of all images are, so few are with probabilities of 0.3 and 0.6 %.
_FIRST = ((12, 1), (20, 4))
#: Draws of the gradients whose agreement is measured; the last only if those before do not agree.
_DRAWS = (1, 4, 16, 64)
#: Mean cosine of two gradients that 64 draws have to reach, and 16 should: below it they are mostly noise.
_COSINE = 0.2


def same_forward(lab: Lab) -> Finding:
    """Check that the logits that gradients are taken of are the logits that are scored, draw by draw."""
    differences = []
    for batch, draws in _batches(lab, lab.settings.eot_draws):
        with torch.enable_grad():
            images = batch.images.clone().requires_grad_()
            attacked = lab.model.logits(images, batch.ids, draws).detach()
        with torch.no_grad():
            scored = lab.model.logits(batch.images, batch.ids, draws)
        scale = scored.abs().amax().clamp_min(1e-30)
        differences.append((attacked - scored).abs().amax() / scale)
    worst = float(torch.stack(differences).max())  # NaN where any is
    verdict = AuditVerdict.PASS if worst <= _SAME else AuditVerdict.FAIL
    return Finding(verdict, f"logits with and without gradient differ by {worst:.1g}", {"difference": worst})


def usable(lab: Lab) -> Finding:
    """The gradient of the attack's loss is finite and not zero."""
    if not lab.connected:
        return Finding(AuditVerdict.FAIL, "no gradient reaches the images", {"unusable": [1.0, 1.0, 1.0]})
    zero = broken = 0
    entries = 0.0
    for batch, draws in _batches(lab, lab.settings.eot_draws):
        gradient = _gradient(lab, batch, draws, cross_entropy).flatten(1)
        finite = gradient.isfinite().all(1)
        broken += int((~finite).sum())
        zero += int((gradient == 0).all(1).sum())
        entries += float((gradient == 0).double().mean(1).sum())
    count = len(lab.data)
    share = wilson((zero + broken) / count, count)
    verdict = _grade(share.estimate, warn=0.0, fail=_UNUSABLE)
    message = f"{zero} of {count} gradients are zero, {broken} not finite: {percent(share)}"
    return Finding(verdict, message, {"unusable": list(share), "zero_entries": entries / count})


def finite_differences(lab: Lab) -> Finding:
    """Check that backpropagated derivatives of the margin are those of the function that is scored.

    Central differences of two sizes along random directions of signs, same draws: per image the error of its
    derivatives relative to their size. All images are looked at only if more than one of the first twelve,
    and more than four of the first twenty in random order, are above the bound of a warning: if the median
    were, that would not be so in 9 of 1,000 audits.
    """
    if lab.model.precision != "fp32":
        raise NotApplicableError(f"{lab.model.precision} rounds more than a small step changes: audit fp32")
    _require_gradients(lab)
    errors = {step: torch.empty(0) for step, _, _ in _STEPS}
    count = 0
    for most, above in (*_FIRST, (len(lab.data), len(lab.data))):
        if rows := sorted(lab.order[count:most]):
            errors = {step: torch.cat((errors[step], more)) for step, more in _errors_at(lab, rows).items()}
            count += len(rows)
        if all(int((errors[step] > warn).sum()) <= above for step, warn, _ in _STEPS):
            break
    verdicts, messages = [], []
    numbers: dict[str, float | list[float] | str] = {"images": float(count)}
    for step, warn, fail in _STEPS:
        median, upper = (float(errors[step].quantile(q).clamp_max(1e9)) for q in (0.5, 0.9))
        verdicts.append(_grade(median, warn=warn, fail=fail))
        messages.append(f"{median:.2g} with a step of {step:g} (90 % of images below {upper:.2g})")
        numbers |= {f"median_{step:g}": median, f"q90_{step:g}": upper}
    worst = max(verdicts, key=[AuditVerdict.PASS, AuditVerdict.WARN, AuditVerdict.FAIL].index)
    some = "" if count == len(lab.data) else f", {count} images"
    return Finding(worst, f"median error of a derivative{some}: {', '.join(messages)}", numbers)


def _errors_at(lab: Lab, rows: Sequence[int]) -> dict[float, Tensor]:
    """Return the relative errors (n,) of the derivatives of images at these positions, by size of step."""
    errors: dict[float, list[Tensor]] = {step: [] for step, _, _ in _STEPS}
    for batch, draws in _batches(lab, lab.settings.eot_draws, rows):
        gradient = _gradient(lab, batch, draws, margin_loss)
        keyed = KeyedRandom(draws.seed, Stream.AUDIT, "directions")
        shape = batch.images.shape[1:]
        uniforms = [keyed.uniforms(batch.ids, shape, draw=index) for index in range(_DIRECTIONS)]
        signs = [(uniform.to(batch.images) * 2 - 1).sign() for uniform in uniforms]
        for step, of_step in errors.items():
            of_step.append(_errors(lab, batch, draws, gradient, [step * sign for sign in signs]))
    return {step: torch.cat(found).nan_to_num(nan=torch.inf) for step, found in errors.items()}


def agreement(lab: Lab) -> Finding:
    """Check that two gradients over independent draws agree, and measure how many draws a gradient needs.

    With signal S and noise variance V / k of a gradient over k draws the expected cosine is about
    S / (S + V / k); the signal-to-noise ratio is cosine / (1 - cosine). The most draws are tried only if
    fewer do not agree.
    """
    if not lab.model.stochastic:
        raise NotApplicableError("all draws are the same")
    _require_gradients(lab)
    mean: dict[int, float] = {}
    same: dict[int, float] = {}
    for count in _DRAWS:
        if mean.get(_DRAWS[-2], 0.0) >= _COSINE:
            break  # more draws agree the better
        cosines, signs = [], []
        for batch, draws in _batches(lab, 2 * count):
            halves = (_gradient(lab, batch, half, cross_entropy).flatten(1) for half in draws.chunks(count))
            first, second = halves
            cosines.append(torch.cosine_similarity(first.double(), second.double(), eps=1e-300))
            signs.append((first.sign() == second.sign()).double().mean(1))
        mean[count] = float(torch.cat(cosines).nan_to_num(0.0).mean())
        same[count] = float(torch.cat(signs).mean())
    ratio = {count: cosine / max(1 - cosine, 1e-9) for count, cosine in mean.items()}
    enough, most = (mean.get(count, 1.0) >= _COSINE for count in _DRAWS[-2:])
    verdict = AuditVerdict.PASS if enough else AuditVerdict.WARN if most else AuditVerdict.FAIL
    course = ", ".join(f"{k}: {mean[k]:.2f} ({same[k]:.0%}, {_ratio(ratio[k])})" for k in mean)
    numbers: dict[str, float | list[float] | str] = {
        "draws": [float(count) for count in mean],
        "cosine": list(mean.values()),
        "sign_agreement": list(same.values()),
        "snr": list(ratio.values()),
    }
    return Finding(verdict, f"cosine (equal signs, SNR) by draws {course}", numbers)


def _ratio(value: float) -> str:
    """Format a number with two digits, without an exponent."""
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _require_gradients(lab: Lab) -> None:
    if not lab.connected:
        raise NotApplicableError("no gradient reaches the images")


def _batches(lab: Lab, draws: int, rows: Sequence[int] | None = None) -> Iterator[tuple[Batch, Draws]]:
    """Yield images, in batches that fit in memory, with the first `draws` draws of the audit stream.

    Args:
        lab: model and images.
        draws: number of draws of a random model.
        rows: positions of the images; None: all.
    """
    score, device = lab.settings.score, lab.model.device
    draws = draws if lab.model.stochastic else 1
    size = max(1, score.rows // draws)
    data = lab.data if rows is None else lab.part(rows)
    for start in range(0, len(data), size):
        piece = slice(start, start + size)
        batch = Batch(to_float(data.images[piece]).to(device), data.labels[piece].to(device), data.ids[piece])
        yield batch, Draws(score.seed, Stream.AUDIT, range(draws))


def _gradient(lab: Lab, batch: Batch, draws: Draws, objective: Objective) -> Tensor:
    """Return the gradient (B, C, H, W) of the objective of the mean probability over `draws`."""
    with torch.enable_grad():
        images = batch.images.clone().requires_grad_()
        log_probs = log_mean(lab.model.logits(images, batch.ids, draws).log_softmax(-1))
        (gradient,) = torch.autograd.grad(objective(log_probs, batch.labels).sum(), images)
    return gradient


def _margin(lab: Lab, batch: Batch, draws: Draws, change: Tensor) -> Tensor:
    """Return the margin loss (B,) of changed images, as scoring computes it."""
    with torch.no_grad():
        logits = lab.model.logits(batch.images + change, batch.ids, draws)
        return margin_loss(log_mean(logits.log_softmax(-1)), batch.labels)


def _errors(lab: Lab, batch: Batch, draws: Draws, gradient: Tensor, steps: list[Tensor]) -> Tensor:
    """Return the relative error (B,) of the derivatives along `steps` that a gradient (B, C, H, W) gives."""
    claimed, measured = [], []
    for step in steps:
        ahead, behind = (_margin(lab, batch, draws, side * step) for side in (1, -1))
        claimed.append((gradient * step).flatten(1).sum(1))
        measured.append((ahead - behind) / 2)
    size = torch.stack(measured).norm(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
    error: Tensor = (torch.stack(claimed) - torch.stack(measured)).norm(dim=0) / size
    return error


def _grade(value: float, *, warn: float, fail: float) -> AuditVerdict:
    return AuditVerdict.FAIL if value > fail else AuditVerdict.WARN if value > warn else AuditVerdict.PASS
