"""`certify`: what is proven about a classifier with noise on its images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sde.api.arguments import Data, Numbers, attacks_of, dataset_of, numbers_of
from robustbench_sde.api.evaluation import Out, evaluate_work, work_folder
from robustbench_sde.api.models import Models, compute_of, sources_of
from robustbench_sde.api.progress import shown
from robustbench_sde.choices import DecisionRule
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.certificate_report import CertificateReport
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.base import Attack
from robustbench_sde.perturbations.attacks.registry import plan_attacks
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.progress import Bars
from robustbench_sde.reporting.certificates import print_certificates
from robustbench_sde.reporting.notebook import html_of_printed
from robustbench_sde.runs.cells import Cell, CertifyCell, attack_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.words import interval
from robustbench_sde.runs.work import Work


@dataclass(frozen=True, repr=False)
class Certificates:
    """One report for each smoothed model."""

    reports: tuple[CertificateReport, ...]
    #: folder in which they are stored; None: in memory only
    folder: Path | None = None
    #: number of reports that were stored there already
    reused: int = 0

    def __repr__(self) -> str:
        """Return one line: the classifiers, and what is proven of each at its largest radius."""
        proven = (
            f"{report.checkpoint} {interval(*bracket.certified)} % at L2 {bracket.radius:g}"
            for report in self.reports
            for bracket in [max(report.brackets, key=lambda bracket: bracket.radius)]
        )
        return f"<Certificates: {'; '.join(proven) or 'none'}>"

    def _repr_html_(self) -> str:
        """Return the table that the command prints, for notebooks."""
        folder = None if self.folder is None else str(self.folder)
        return html_of_printed(lambda: print_certificates(self.reports, folder=folder, reused=self.reused))

    @property
    def ok(self) -> bool:
        """Whether no certificate is contradicted by an attack."""
        return all(report.ok for report in self.reports)


def certify(
    models: Models,
    data: Data,
    *,
    smoothing: Numbers = 0.25,
    radius: Numbers = (0.0, 0.25, 0.5, 1.0),
    draws: int = 10_000,
    select_draws: int = 100,
    alpha: float = 0.001,
    early: bool = True,
    attack: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    sigma: float | None = None,
    noise: bool = True,
    precision: str = "fp32",
    score_draws: int = 256,
    rule: DecisionRule = "vote",
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = None,
    force: bool = False,
    progress: bool = False,
    bars: Bars | None = None,
) -> Certificates:
    """Prove a lower bound of the accuracy under every L2 perturbation, for noise on the image.

    With `attack` there is also an upper bound, and the attack tests each certificate (docs/certificates.md).

    Args:
        models: as in `attack`; None: the checkpoints in checkpoints/ whose names end in ``-smoothed``.
        data: images, or a data set by name, as in `attack`.
        smoothing: standard deviation of the Gaussian noise on the image, for images in [0, 1], like 0.25
            or ``"1/4"``; or several.
        radius: L2 radii whose certified accuracy is reported, for images in [0, 1].
        draws: largest number of draws for each image, on the `certify` stream.
        select_draws: number of draws that select the class, on the `select` stream.
        alpha: largest probability that the certificate of an image is wrong.
        early: whether to stop once more draws would not change the result; if not, every image gets all
            draws.
        attack: name of an attack with an L2 norm, which is run within each radius; None: no upper bound.
        parameters: fields of the class of the attack.
        sigma: as in `attack`.
        noise: as in `attack`.
        precision: as in `attack`.
        score_draws: number of draws that decide the class of an attacked image.
        rule: decision rule that is certified and scored, `vote` or `mean-prob`.
        seed: as in `attack`.
        batch_size: as in `attack`.
        device: as in `attack`.
        out: as in `attack`.
        force: as in `attack`.
        progress: as in `attack`.
        bars: receiver of progress, of checkpoints and images.

    Returns:
        Certified accuracies and the certificate of each image, for each model.

    Raises:
        BenchError: an argument is wrong, or a model cannot be evaluated.
        InvalidEvaluationError: logits are not finite, or an attacked image is not valid.

    Source: Cohen, Rosenfeld & Kolter, ICML 2019 (`vote`); Salman et al., NeurIPS 2019 (`mean-prob`).
    """
    data = dataset_of(data)
    radii = tuple(sorted(dict.fromkeys(numbers_of(radius, "radius"))))
    settings = CertifySettings(draws, select_draws, alpha, radii, rule, early, seed, batch_size)
    score = ScoreSettings(score_draws, rule, seed, batch_size)
    attacks: list[Attack] = []
    if attack is not None:
        budgets = [each for each in radii if each > 0]
        if not budgets:
            raise BenchError("`radius` has no value above 0, which the attack needs")
        if score_draws < 2:
            raise BenchError(f"`score_draws` is {score_draws}; a test of certificates needs at least 2")
        (attack,) = attacks_of([attack])
        attacks = plan_attacks([attack], "l2", budgets, {}, {attack: dict(parameters or {})})
        if any(each.norm != "l2" for each in attacks):
            raise BenchError(
                f"certificates hold for L2, which {attack} does not support; choose apgd-ce or pgd"
            )
    sources = sources_of(
        models, data, sigma=sigma, noise=noise, precision=precision, smoothing=smoothing, certified=True
    )
    cells = [cell for source in sources for cell in _cells_beside(source, attacks, score)]
    work = Work.of(cells, data, [CertifyCell.of(source, settings) for source in sources])
    keys = [cell.key(data) for cell in work.certified] + (list(work.keys.values()) if attacks else [])
    place = None if out is None else work_folder(out, "certify", data, keys).path
    with shown(progress, bars) as bars:
        result = evaluate_work("certify", work, compute_of(device), place, bars, force=force)
    return Certificates(result.certificates, result.folder, result.reused_certificates)


def _cells_beside(source: Source, attacks: list[Attack], score: ScoreSettings) -> list[Cell]:
    """Make the cells that stand beside certificates: clean images, and attacked ones with their control."""
    return attack_cells(source, attacks, score) if attacks else [Cell(source, Clean(), score)]
