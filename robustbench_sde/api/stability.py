"""`stability`: how fast neighbouring states of a flow part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robustbench_sde.api.arguments import (
    Budget,
    Data,
    Numbers,
    budget_of,
    corruptions_of,
    dataset_of,
    norm_of,
    severities_of,
)
from robustbench_sde.api.evaluation import Out, work_folder
from robustbench_sde.api.models import Models, compute_of, sources_of
from robustbench_sde.api.progress import shown
from robustbench_sde.choices import DecisionRule
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.stability.analysis import StabilitySettings, perturbations_to_follow
from robustbench_sde.evaluation.stability.report import StabilityReport
from robustbench_sde.models.compute import Compute
from robustbench_sde.progress import Bars
from robustbench_sde.reporting.notebook import html_of_printed
from robustbench_sde.reporting.stability import print_stability
from robustbench_sde.runs.stability import make_room_for_reports, run_stability, stability_key


@dataclass(frozen=True, repr=False)
class Stability:
    """One report for each model."""

    reports: tuple[StabilityReport, ...]
    #: where they are stored; None: in memory only
    folder: Path | None = None
    #: how many were stored there already
    reused: int = 0

    def __repr__(self) -> str:
        """Return one line: the exponent of each network, per unit of time."""
        found = (f"{report.checkpoint} {report.exponent.estimate:+.3f}" for report in self.reports)
        return f"<Stability: exponent {', '.join(found)}>"

    def _repr_html_(self) -> str:
        """Return the tables that the command prints, for notebooks."""
        folder = None if self.folder is None else str(self.folder)
        return html_of_printed(lambda: print_stability(self.reports, folder=folder, reused=self.reused))


def stability(
    models: Models,
    data: Data,
    *,
    paths: int = 8,
    norm: str = "linf",
    eps: Budget | None = None,
    steps: int = 20,
    eot_draws: int = 8,
    corruptions: str | Sequence[str] = "gaussian_blur",
    severities: int | str | Sequence[int | str] = (3,),
    family: str | None = None,
    sigma: float | None = None,
    noise: bool = True,
    smoothing: Numbers | None = None,
    score_draws: int | Literal["auto"] = 32,
    rule: DecisionRule = "mean-prob",
    seed: int = 0,
    batch_size: int = 256,
    device: str | Compute = "auto",
    out: Out = None,
    force: bool = False,
    progress: bool = False,
    bars: Bars | None = None,
) -> Stability:
    """Measure how fast neighbouring states separate, and compare with theory (docs/stability.md).

    Random perturbations, an attack and corruptions are followed through the flow on the Brownian paths of
    the clean image. The paths belong to the `audit` stream, which no perturbation has seen.

    Args:
        models: as in `attack`; they must be networks of this package, whose flow can be measured.
        data: images to perturb, or a data set by name, as in `attack`.
        paths: number of Brownian paths for each image; a model without noise has one.
        norm: norm of the random perturbations and of pgd, `linf` or `l2`.
        eps: budget of these perturbations, for images in [0, 1]; None is 0.03 (linf) or 0.5 (l2).
        steps: number of steps of pgd.
        eot_draws: number of fresh draws that pgd averages in every gradient.
        corruptions: as in `score`.
        severities: as in `score`.
        family: as in `score`.
        sigma: as in `attack`.
        noise: as in `attack`.
        smoothing: as in `attack`; a perturbed image has the noise of its clean image.
        score_draws: as in `attack`.
        rule: as in `attack`.
        seed: as in `attack`.
        batch_size: as in `attack`.
        device: as in `attack`.
        out: as in `attack`.
        force: whether other reports that `out` holds are replaced. False: that is an error.
        progress: as in `attack`.
        bars: receiver of progress, of parts of the work and of images.

    Returns:
        Estimates with their intervals for each model; exponents are per unit of time of the flow.

    Raises:
        BenchError: an argument is wrong, or a model is not one of ours.
        InvalidEvaluationError: a perturbed image is not valid, or states are not finite.
    """
    data, norm = dataset_of(data), norm_of(norm) or norm
    followed_ones = perturbations_to_follow(
        norm,
        budget_of(eps, norm),
        steps=steps,
        eot_draws=eot_draws,
        corruptions=corruptions_of(corruptions),
        severities=severities_of(severities),
        family=family,
    )
    settings = StabilitySettings(paths, ScoreSettings(score_draws, rule, seed, batch_size))
    sources = sources_of(models, data, sigma=sigma, noise=noise, smoothing=smoothing)
    folder = None
    if out is not None:
        keys = [stability_key(source, data, followed_ones, settings) for source in sources]
        folder = work_folder(out, "stability", data, keys)
        make_room_for_reports(folder.path, keys, force=force)
    with shown(progress, bars) as bars:
        reports, reused = run_stability(
            sources, data, followed_ones, settings, folder, compute=compute_of(device), bars=bars
        )
    return Stability(tuple(reports), None if folder is None else folder.path, reused)
