"""Define `sde-bench certify`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete, inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import ExitCode

_CERTIFICATE = "Certificate"


def certify_command(
    context: typer.Context,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Checkpoints; default: those in checkpoints/ that are called NAME-smoothed.",
            autocompletion=complete.checkpoints,
        ),
    ] = None,
    smoothing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIGMAS",
            help="Standard deviation of the noise on images in [0, 1], separated by commas or repeated.",
            show_default="0.25",
            rich_help_panel=_CERTIFICATE,
        ),
    ] = None,
    radius: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RADII",
            help="L2 radii whose certified accuracy is reported, separated by commas or repeated.",
            show_default="0,0.25,0.5,1",
            rich_help_panel=_CERTIFICATE,
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="Largest number of draws for each image.", rich_help_panel=_CERTIFICATE)
    ] = 10_000,
    select_draws: Annotated[
        int, typer.Option(help="Number of draws that select the class.", rich_help_panel=_CERTIFICATE)
    ] = 100,
    alpha: Annotated[
        float,
        typer.Option(
            help="Largest probability that the certificate of an image is wrong.",
            rich_help_panel=_CERTIFICATE,
        ),
    ] = 0.001,
    early: Annotated[
        bool,
        typer.Option(
            "--early/--all-draws",
            help="Stop drawing for an image once more draws would not change its result.",
            rich_help_panel=_CERTIFICATE,
        ),
    ] = True,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Attack within each radius, for an upper bound of the accuracy: apgd-ce, pgd, ...",
            rich_help_panel=o.ATTACK,
            autocompletion=complete.attacks,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Number of steps of the attack; default: depends on the attack.", rich_help_panel=o.ATTACK
        ),
    ] = None,
    eot_draws: Annotated[
        int | None,
        typer.Option(
            help="Number of draws averaged in every gradient; default: depends on the attack.",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    model: o.Model = None,
    weights: o.Weights = None,
    normalize: o.Normalize = None,
    classes: o.Classes = None,
    class_map: o.ClassMap = None,
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
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    score_draws: Annotated[
        int,
        typer.Option(
            help="Number of draws that decide the class of an attacked image.", rich_help_panel=o.SCORING
        ),
    ] = 256,
    rule: o.RuleOption = "vote",
    seed: o.Seed = 0,
    out: o.Out = None,
    force: o.Force = False,
    json: o.Json = False,
    output: o.TableFormat = "table",
    quiet: o.Quiet = False,
    noise_backend: o.NoiseBackend = "auto",
    memory_limit: o.MemoryLimit = None,
    compile_: o.Compile = False,
    graphs: o.Graphs = True,
    strict_versions: o.StrictVersions = False,
    batch_size: o.BatchSize = 256,
) -> None:
    """Prove how accurate a classifier with Gaussian noise on the image is under every L2 perturbation.

    Without names it certifies the checkpoints in checkpoints/ whose names end in -smoothed. The certified
    accuracy is a lower bound. --attack adds an upper bound: the accuracy under an attack within each
    radius. If the attack contradicts a certificate, the row is invalid and the exit code is 4.

    [bold]Example:[/bold] sde-bench certify digits-smoothed --smoothing 0.25 --attack apgd-ce
    """
    from robustbench_sde.evaluation.certificate_report import to_json
    from robustbench_sde.reporting.bracket_figure import bracket_figure
    from robustbench_sde.reporting.certificates import print_certificates
    from robustbench_sde.reporting.progress import progress_bars

    options = inputs.shared(context) | {
        "smoothing": texts.parse_numbers(smoothing or ["0.25"], "smoothing"),
        "radius": texts.parse_numbers(radius or ["0,0.25,0.5,1"], "radius"),
    }
    data = inputs.load_images(context)
    models = inputs.find_models(context, checkpoints, data, options["device"])
    given = {"steps": steps, "eot_draws": eot_draws}
    with progress_bars(quiet=quiet) as bars:
        found = rb.certify(
            models,
            data,
            draws=draws,
            select_draws=select_draws,
            alpha=alpha,
            early=early,
            attack=attack,
            parameters={name: value for name, value in given.items() if value is not None},
            **options,
            out=out or "auto",
            force=force,
            bars=bars,
        )
    folder = inputs.folder_of(found)
    bracket_figure(found.reports, folder)
    if json:
        print(to_json(list(found.reports)))
    else:
        print_certificates(found.reports, folder=str(folder.path), reused=found.reused)
    if not found.ok:
        raise typer.Exit(ExitCode.INVALID)
