"""Define `sde-bench stability`."""

from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde import choices
from robustbench_sde.cli import inputs, texts
from robustbench_sde.cli import options as o

_PERTURBATION = "Perturbations"


def stability_command(
    context: typer.Context,
    checkpoints: o.Checkpoints = None,
    paths: Annotated[
        int, typer.Option(help="Number of Brownian paths for each image.", rich_help_panel="Scoring")
    ] = 8,
    norm: Annotated[
        choices.NormName,
        typer.Option(
            help="Norm of the random and of the adversarial perturbations.",
            case_sensitive=False,
            rich_help_panel=_PERTURBATION,
        ),
    ] = "linf",
    eps: Annotated[
        str | None,
        typer.Option(
            help="Budget of these perturbations: 0.03 or 8/255; default: 0.03 (linf), 0.5 (l2).",
            rich_help_panel=_PERTURBATION,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Number of steps of pgd.", rich_help_panel=_PERTURBATION)] = 20,
    eot_draws: Annotated[
        int,
        typer.Option(
            help="Number of fresh draws averaged in every gradient of pgd.", rich_help_panel=_PERTURBATION
        ),
    ] = 8,
    corruptions: o.Corruptions = None,
    severity: o.Severity = None,
    family: o.Family = None,
    dataset: o.Dataset = "digits",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    interpolation: o.Interpolation = "bilinear",
    class_order: o.ClassOrder = None,
    images: o.Images = 20,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    smoothing: o.Smoothing = None,
    device: o.Device = "auto",
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    seed: o.Seed = 0,
    out: o.Out = None,
    force: o.Force = False,
    json: o.Json = False,
    output: o.TableFormat = "table",
    quiet: o.Quiet = False,
    noise_backend: o.NoiseBackend = "auto",
    graphs: o.Graphs = True,
    strict_versions: o.StrictVersions = False,
    batch_size: o.BatchSize = 256,
) -> None:
    """Measure how fast neighbouring states of a flow separate, and compare with what theory predicts.

    Prints the top Lyapunov exponent and the drift's Lipschitz constant along the paths of real images, the
    condition sigma² > 2L if it applies, and how far random, attacked and corrupted images move away from the
    clean image on the Brownian path of the clean image. Writes
    stability/CHECKPOINT.json and a figure into the folder --out.

    [bold]Example:[/bold] sde-bench stability digits-ode digits-multiplicative --images 50
    """
    from robustbench_sde.evaluation.stability.report import to_json
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.stability import print_stability, stability_figure

    severities, budget = texts.parse_severities(severity or "3"), texts.parse_one_eps(eps, norm)
    options = inputs.shared(context)
    data = inputs.load_images(context)
    with progress_bars(quiet=quiet) as bars:
        found = rb.stability(
            checkpoints or None,
            data,
            paths=paths,
            norm=norm,
            eps=budget,
            steps=steps,
            eot_draws=eot_draws,
            corruptions=",".join(texts.parts(corruptions or "gaussian_blur")),
            severities=severities,
            family=family,
            **options,
            out=out or "auto",
            force=force,
            bars=bars,
        )
    folder = inputs.folder_of(found)
    stability_figure(found.reports, folder)
    if json:
        print(to_json(found.reports))
    else:
        print_stability(found.reports, folder=str(folder.path), reused=found.reused)
