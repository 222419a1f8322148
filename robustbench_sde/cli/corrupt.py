"""Define `sde-bench corrupt`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode


def corrupt_command(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoints; default: all in checkpoints/ trained on the data set."),
    ] = None,
    corruptions: o.Corruptions = "benchmark",
    severity: o.Severity = "1-5",
    family: o.Family = None,
    frost_dir: o.FrostDir = None,
    official: Annotated[
        str | None,
        typer.Option(
            help="Read published images instead: cifar10-c:DIR, cifar100-c:DIR, mnist-c:DIR, "
            "tiny-imagenet-c:DIR.",
            rich_help_panel=o.CORRUPTION,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A checkpoint whose errors mCE is relative to.", rich_help_panel=o.CORRUPTION),
    ] = None,
    model: o.Model = None,
    weights: o.Weights = None,
    normalize: o.Normalize = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="As everywhere; default: digits, or what --official corrupts.",
            rich_help_panel="Data",
        ),
    ] = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    images: o.Images = 200,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    noise_backend: o.NoiseBackend = "auto",
    memory_limit: o.MemoryLimit = None,
    compile_: o.Compile = False,
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    seed: o.Seed = 0,
    batch_size: o.BatchSize = 256,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Corrupt images as CIFAR-10-C and its siblings do, score checkpoints on them, and write a run folder.

    Prints tables by corruption and severity with means, and draws figures. mCE needs --reference.

    [bold]Example:[/bold] sde-bench corrupt --corruptions blur,fog --severity 1-5 --images 100
    """
    from robustbench_sde.data.official import OFFICIAL, open_official
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.reporting.corruptions import corruption_figure, print_corruptions
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json

    severities = o.parse_severities(severity)
    compute = Compute.of(device, noise_backend=noise_backend, memory_limit=memory_limit, compile=compile_)
    clean = dataset or ("digits" if official is None else OFFICIAL[open_official(official).name])
    if not clean:
        raise BenchError(f"--official {official} needs --dataset: the clean images, as tiny-imagenet:PATH")
    data = o.test_data(clean, data_dir, download, image_size, images)
    models = o.find_models(
        checkpoints, model, weights, normalize, data, sigma=sigma, noise=noise, compute=compute
    )
    with progress_bars(quiet=quiet) as bars:
        result = rb.score(
            models,
            data,
            corruptions=corruptions,
            severities=severities,
            family=family,
            frost_dir=frost_dir,
            official=official,
            reference=reference,
            sigma=sigma,
            noise=noise,
            precision=precision,
            score_draws=score_draws,
            rule=rule,  # type: ignore[arg-type]
            seed=seed,
            batch_size=batch_size,
            device=compute,
            out=out or "auto",
            bars=bars,
        )
    folder, table = o.folder_of(result), result.corruptions
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
