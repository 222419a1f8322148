"""`sde-bench corrupt`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.cli.attack import run_name
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
    noise_backend: o.NoiseBackend = "host",
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

    Tables by corruption and severity, their means, and a figure. mCE is given against --reference only.

    [bold]Example:[/bold] sde-bench corrupt --corruptions blur,fog --severity 1-5 --images 100
    """
    from robustbench_sde.data.official import OFFICIAL, open_official
    from robustbench_sde.evaluation.scoring import ScoreSettings
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.perturbations.corruptions import make_corruptions, stored_corruptions
    from robustbench_sde.reporting.corruptions import corruption_figure, print_corruptions
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json
    from robustbench_sde.results.run_folder import RunFolder
    from robustbench_sde.suite.cells import Source, corruption_cells
    from robustbench_sde.suite.corruption import check_names, write_corruptions
    from robustbench_sde.suite.module_source import about_modules
    from robustbench_sde.suite.run import run_cells

    severities = o.parse_severities(severity)
    settings = ScoreSettings(score_draws, rule, seed, batch_size)  # type: ignore[arg-type]
    compute = Compute.of(device, noise_backend=noise_backend, memory_limit=memory_limit, compile=compile_)
    published = None if official is None else open_official(official)
    if published is None:
        made = make_corruptions(corruptions, severities, family=family, frost_dir=frost_dir)
    elif family or frost_dir:
        raise BenchError("--family and --frost-dir are for making corruptions; --official reads them")
    clean = dataset or ("digits" if published is None else OFFICIAL[published.name])
    if not clean:
        raise BenchError(f"--official {official} needs --dataset: the clean images, as tiny-imagenet:PATH")
    data = o.test_data(clean, data_dir, download, image_size, images)
    if published is not None:
        made = stored_corruptions(published, data, corruptions, severities)
    base = None if reference is None else o.find_checkpoints([reference], data.name)[0]
    sources = o.find_sources(
        checkpoints, model, weights, normalize, data,
        sigma=sigma, noise=noise, precision=precision, compute=compute,
    )  # fmt: skip
    if base is not None and base.resolve() not in [source.path.resolve() for source in sources]:
        sources = [Source.of(base, data, sigma=sigma, noise=noise, precision=precision), *sources]
    check_names([source.path for source in sources])
    cells = [cell for source in sources for cell in corruption_cells(source, made, settings)]
    folder = RunFolder(
        out or Path("reports") / f"corrupt-{run_name(data.name, [c.key(data) for c in cells])}"
    )
    with progress_bars(quiet=quiet) as bars:
        run = run_cells(cells, data, folder, compute=compute, bars=bars, about=about_modules(sources))
    table = write_corruptions(run, cells, data, base)
    corruption_figure(table, folder)
    if json:
        print_json(table)
    else:
        print_corruptions(
            table,
            run.summary,
            folder=str(folder.path),
            reused=run.reused,
            reference=None if base is None else base.stem,
        )
    if (run.summary["status"] != "ok").any():
        raise typer.Exit(ExitCode.INVALID)
