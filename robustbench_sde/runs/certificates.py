"""Certificates of several smoothed checkpoints, resumable: one report a checkpoint in a folder."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import counted
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.certificate_report import (
    Bracket,
    CertificateReport,
    ImageCertificate,
    read_certificates,
    write_certificates,
)
from robustbench_sde.evaluation.certify import CertifySettings, certificates, certified_at, contradictions
from robustbench_sde.evaluation.repeat import unchanged
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.memory import rows_that_fit
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source
from robustbench_sde.storage.run_folder import RunFolder

#: images that a status names, at most
_NAMED = 10


def certificate_key(
    source: Source,
    data: ImageDataset,
    attacks: Sequence[Attack],
    settings: CertifySettings,
    score: ScoreSettings,
) -> str:
    """Hash all that decides the numbers of a report: the keys of its cells and the settings but `rows`."""
    cells = [Cell(source, perturbation, score) for perturbation in (Clean(), *attacks)]
    parts = [*(cell.key(data) for cell in cells), repr(replace(settings, rows=1))]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def run_certificates(
    sources: Sequence[Source],
    data: ImageDataset,
    attacks: Sequence[Attack],
    settings: CertifySettings,
    score: ScoreSettings,
    folder: RunFolder | None,
    *,
    compute: Compute,
    bars: Bars,
) -> tuple[list[CertificateReport], int]:
    """Return the reports, in the order of `sources`, and how many of them were in the folder already.

    Args:
        sources: smoothed classifiers.
        data: images.
        attacks: attack with each radius above 0 as its budget; none: no bracket.
        settings: of the certificates.
        score: of the attacked images.
        folder: where each report is written when it is finished; None: nowhere.
        compute: where and how the models are computed.
        bars: told of checkpoints and images.

    Raises:
        BenchError: a stored report is damaged, or a checkpoint has changed.
        InvalidEvaluationError: logits are not finite, an attacked image is not valid, or a model remembers
            earlier calls.
    """
    reports, reused = [], 0
    bars.cells.start("certify", len(sources))
    for source in sources:
        key = certificate_key(source, data, attacks, settings, score)
        report = None if folder is None else read_certificates(folder.path, source.name)
        if report is not None and report.key == key:
            reused += 1
        else:
            model = source.load(compute)
            rows = min(settings.rows, rows_that_fit(model, compute.memory_limit) or settings.rows)
            assert source.smoothing is not None  # certificates are about smoothed sources
            with unchanged(model, data):
                report = certify_model(
                    model,
                    data,
                    attacks,
                    replace(settings, rows=rows),
                    replace(score, rows=rows),
                    sigma=source.smoothing,
                    key=key,
                    sha256=source.sha256,
                    bars=bars,
                )
            if folder is not None:
                write_certificates(folder.path, report)
        reports.append(report)
        bars.cells.advance()
    return reports, reused


def certify_model(
    model: RandomClassifier,
    data: ImageDataset,
    attacks: Sequence[Attack],
    settings: CertifySettings,
    score: ScoreSettings,
    *,
    sigma: float,
    key: str = "",
    sha256: str = "",
    bars: Bars,
) -> CertificateReport:
    """Certify a classifier that adds N(0, sigma^2) to the image, and attack it within each radius.

    An image that is certified beyond a radius and that the attack fools within it makes the report invalid.
    """
    started = time.perf_counter()
    bars.images.start(f"{model.name} certify", len(data))
    records = certificates(model, data, settings, sigma=sigma, progress=bars.images)
    by_radius = {attack.eps: attack for attack in attacks}
    brackets, wrong = [], []
    for radius in settings.radii:
        certified, low, high = wilson(float(certified_at(records, radius).mean()), len(data))
        attacked, found = None, []
        if attacks:
            perturbation: Perturbation = by_radius[radius] if radius else Clean()
            bars.images.start(f"{model.name} {perturbation}", len(data))
            result = evaluate(model, data, perturbation, score, progress=bars.images)
            found = contradictions(records, result.records, radius, settings)
            row = result.row
            attacked = (row["accuracy"], row["accuracy_low"], row["accuracy_high"])
            wrong += [f"image {image} at {radius:g}" for image in found]
        brackets.append(Bracket(radius, (certified, low, high), attacked, tuple(found)))
    named = ", ".join(wrong[:_NAMED]) + ", ..." * (len(wrong) > _NAMED)
    status = f"invalid: {counted(len(wrong), 'certificate')} contradicted by the attack ({named})"
    return CertificateReport(
        checkpoint=model.name,
        sha256=sha256,
        key=key,
        dataset=data.name,
        images=len(data),
        noise=model.noise,
        smoothing=sigma,
        rule=settings.rule,
        draws=settings.draws,
        select_draws=settings.select_draws,
        alpha=settings.alpha,
        seed=settings.seed,
        attack=attacks[0].label if attacks else "",
        score_draws=score.most_draws if attacks else 0,
        brackets=tuple(brackets),
        average_radius=float(np.where(records["correct"], records["radius"], 0.0).mean()),
        abstained=float(records["abstained"].mean()),
        mean_draws=float(records["draws"].mean()),
        status=status if wrong else "ok",
        seconds=time.perf_counter() - started,
        certificates=tuple(ImageCertificate(*row) for row in records.itertuples(index=False)),
    )
