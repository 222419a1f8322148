"""Define `sde-bench score`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde import choices
from robustbench_sde.cli import inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode


def score_command(
    context: typer.Context,
    images: Annotated[
        list[Path],
        typer.Argument(
            help="File .npz, .npy or .safetensors with x (n, C, H, W) or (n, H, W, C), floats in [0, 1] "
            "or uint8; "
            "optionally ids (indices in the test split) and y (labels).",
        ),
    ],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="Checkpoint that scores the images; may be repeated. Default: all trained on the data set."
        ),
    ] = None,
    norm: Annotated[
        choices.NormName | None,
        typer.Option(
            help="Norm of the budget; default: from the file.", case_sensitive=False, rich_help_panel="Budget"
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="Budget that every image must satisfy (this is checked); default: from the file.",
            rich_help_panel="Budget",
        ),
    ] = None,
    model: o.Model = None,
    weights: o.Weights = None,
    normalize: o.Normalize = None,
    classes: o.Classes = None,
    class_map: o.ClassMap = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set of the original images; default: from the file, or digits.", rich_help_panel="Data"
        ),
    ] = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    interpolation: o.Interpolation = "bilinear",
    class_order: o.ClassOrder = None,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    smoothing: o.Smoothing = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    seed: o.Seed = 0,
    out: o.Out = None,
    force: o.Force = False,
    json: o.Json = False,
    output: o.TableFormat = "table",
    quiet: o.Quiet = False,
    noise_backend: o.NoiseBackend = "auto",
    memory_limit: o.MemoryLimit = None,
    graphs: o.Graphs = True,
    strict_versions: o.StrictVersions = False,
    batch_size: o.BatchSize = 256,
) -> None:
    """Score perturbed images from any source: verify them, score them on fresh draws, and print the table.

    The images of a file with `ids` are paired with their originals by these ids. A file without `ids` must
    hold the whole test split, its first n images, or the n images that --images n selects in other commands.

    [bold]Example:[/bold] sde-bench score adversarial.npz --checkpoint digits-ode --norm linf --eps 8/255
    """
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json, print_summary

    options = inputs.shared(context)
    claimed = texts.parse_one_eps(eps, norm or "")
    whole = inputs.load_images(context, dataset or _dataset(images), whole=True)
    models = inputs.find_models(context, checkpoint, whole, options["device"])
    with progress_bars(quiet=quiet) as bars:
        result = rb.score(
            models,
            whole,
            images,
            norm=norm,
            eps=claimed,
            **options,
            out=out or "auto",
            force=force,
            bars=bars,
        )
    if json:
        print_json(result.summary)
    else:
        print_summary(result.summary, folder=str(result.folder), reused=result.reused)
    if not result.ok:
        raise typer.Exit(ExitCode.INVALID)


def _dataset(files: list[Path]) -> str:
    """Return the data set that the files name as their origin; digits if they name none."""
    from robustbench_sde.storage.images import PerturbedImages

    said = [PerturbedImages.read(path).about for path in files]
    names = {str(about["dataset"]) for about in said if "dataset" in about}
    if len(names) > 1:
        raise BenchError(
            f"the files are of different data sets, {', '.join(sorted(names))}: name one with --dataset"
        )
    return next(iter(names), "digits")
