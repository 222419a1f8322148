"""Define `sde-bench corrupt`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode


def corrupt_command(
    context: typer.Context,
    checkpoints: o.Checkpoints = None,
    corruptions: o.Corruptions = None,
    severity: o.Severity = None,
    family: o.Family = None,
    frost_dir: o.FrostDir = None,
    official: Annotated[
        str | None,
        typer.Option(
            help="Read published images instead: cifar10-c:DIR, cifar100-c:DIR, mnist-c:DIR, "
            "tiny-imagenet-c:DIR, imagenet-c:DIR.",
            rich_help_panel=o.CORRUPTION,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Reference checkpoint: mCE divides by its errors.", rich_help_panel=o.CORRUPTION),
    ] = None,
    model: o.Model = None,
    weights: o.Weights = None,
    normalize: o.Normalize = None,
    classes: o.Classes = None,
    class_map: o.ClassMap = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set by name; default: digits, or the one that --official corrupts.",
            rich_help_panel="Data",
        ),
    ] = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    interpolation: o.Interpolation = "bilinear",
    class_order: o.ClassOrder = None,
    images: o.Images = 200,
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
    compile_: o.Compile = False,
    graphs: o.Graphs = True,
    strict_versions: o.StrictVersions = False,
    batch_size: o.BatchSize = 256,
) -> None:
    """Corrupt images as in CIFAR-10-C and ImageNet-C, score checkpoints on them, and write a run folder.

    Prints tables with the accuracy for each corruption and severity and their means, and draws figures. The
    mean corruption error (mCE) needs --reference.

    [bold]Example:[/bold] sde-bench corrupt --corruptions blur,fog --severity 1-5 --images 100
    """
    from robustbench_sde.data.official import OFFICIAL, open_official
    from robustbench_sde.reporting.corruptions import corruption_figure, print_corruptions
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json

    severities = texts.parse_severities(severity or "1-5")
    options = inputs.shared(context)
    clean = dataset or ("digits" if official is None else OFFICIAL[open_official(official).name])
    if not clean:
        raise BenchError(f"--official {official} needs --dataset: the clean images, as tiny-imagenet:PATH")
    data = inputs.load_images(context, clean)
    models = inputs.find_models(context, checkpoints, data, options["device"])
    with progress_bars(quiet=quiet) as bars:
        result = rb.score(
            models,
            data,
            corruptions=",".join(texts.parts(corruptions or "benchmark")),
            severities=severities,
            family=family,
            frost_dir=frost_dir,
            official=official,
            reference=reference,
            **options,
            out=out or "auto",
            force=force,
            bars=bars,
        )
    folder, table = inputs.folder_of(result), result.corruptions
    assert table is not None
    corruption_figure(table, folder)
    if json:
        print_json(table)
    else:
        print_corruptions(
            table,
            result.summary,
            folder=str(folder.path),
            reused=result.reused,
            reference=None if reference is None else reference.name.removesuffix(".safetensors"),
        )
    if not result.ok:
        raise typer.Exit(ExitCode.INVALID)
