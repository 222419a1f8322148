"""Define `sde-bench run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import robustbench_sde as rb
from robustbench_sde import choices
from robustbench_sde.cli import complete, inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import ExitCode
from robustbench_sde.shipped import SUITES, shipped_files

if TYPE_CHECKING:
    from robustbench_sde.runs.engine import Engine

_RAY = "Ray"


def run_command(
    context: typer.Context,
    suite: Annotated[
        str,
        typer.Argument(help="A suite file, or the name of a shipped suite.", autocompletion=complete.suites),
    ],
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoints; default: those of the suite.", autocompletion=complete.checkpoints),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Folder of the run in reports/; default: the suite's name.", rich_help_panel="Output"
        ),
    ] = None,
    force: o.Force = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be run and an estimate of the time.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Reuse equal cells of other runs in reports/.")
    ] = True,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    interpolation: o.Interpolation = "bilinear",
    class_order: o.ClassOrder = None,
    images: Annotated[
        Any,
        typer.Option(
            parser=texts.parse_images,
            metavar="N|all",
            help="Number of test images; default: the suite's.",
            rich_help_panel=o.DATA,
        ),
    ] = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    smoothing: o.Smoothing = None,
    engine: Annotated[
        choices.EngineName,
        typer.Option(
            help="Engine that computes the cells: local (this process) or ray.",
            case_sensitive=False,
            rich_help_panel=_RAY,
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster: auto or ray://HOST:10001; default: start Ray on this machine.",
            envvar="RAY_ADDRESS",
            show_envvar=False,
            rich_help_panel=_RAY,
        ),
    ] = None,
    gpus_per_task: Annotated[
        float | None,
        typer.Option(
            help="Number of GPUs for each task; with 0.5 two tasks share one GPU. Default: 1 if there are "
            "GPUs.",
            rich_help_panel=_RAY,
        ),
    ] = None,
    cpus_per_task: Annotated[
        int, typer.Option(help="Number of cores and of threads for each task.", rich_help_panel=_RAY)
    ] = 1,
    shard_images: Annotated[
        int,
        typer.Option(
            help="Number of images in each task, rounded up to whole batches.", rich_help_panel=_RAY
        ),
    ] = 256,
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
    """Run a suite: every checkpoint under every perturbation of a YAML file.

    After an interruption the same command continues. Without --name an earlier run of the suite is replaced,
    and a line says so; its cells stay stored. A cell that fails is listed with its reason, does not
    stop the others, and makes the exit code 4.

    [bold]Example:[/bold] sde-bench run smoke
    """
    import pandas as pd

    from robustbench_sde.api.run import folder_name
    from robustbench_sde.reporting.bracket_figure import bracket_figure
    from robustbench_sde.reporting.certificates import print_certificates
    from robustbench_sde.reporting.corruptions import corruption_figure
    from robustbench_sde.reporting.distances import accuracy_against_distance
    from robustbench_sde.reporting.figures import accuracy_against_eps
    from robustbench_sde.reporting.four_curves import four_curves
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json, print_summary
    from robustbench_sde.reporting.tries import accuracy_against_tries

    if engine == "local":
        inputs.refuse_without(
            context, "--engine ray", "address", "gpus_per_task", "cpus_per_task", "shard_images"
        )
    worker = make_engine(engine, address, device, gpus_per_task, cpus_per_task, shard_images)
    options = inputs.shared(context, device="auto" if engine == "ray" else None)
    with progress_bars(quiet=quiet) as bars:
        result = rb.run(
            texts.spelled(suite, shipped_files(SUITES)),
            checkpoints or None,
            images=images,
            data_dir=data_dir,
            download=download,
            image_size=image_size,
            resize=resize,
            crop=crop,
            interpolation=interpolation,
            class_order=class_order,
            **options,
            engine=worker,
            cache=cache,
            out="auto" if name is None else Path("reports") / folder_name(name),
            force=force,
            dry_run=dry_run,
            planned=None if quiet or dry_run else lambda plan: typer.echo(str(plan), err=True),
            bars=bars,
        )
    plan = result.plan
    if dry_run and plan is not None:
        if json:
            print_json(pd.DataFrame(plan.rows()))
        else:
            workers = [plan.with_workers(shard_images)] if plan.seconds else []
            print("\n".join([*plan.lines(), str(plan), *workers]))
        return
    folder = inputs.folder_of(result)
    accuracy_against_eps(result.summary, folder)
    accuracy_against_tries(result.summary, folder, folder)
    four_curves(result.summary, folder, folder)
    accuracy_against_distance(folder)
    if result.corruptions is not None:
        corruption_figure(result.corruptions, folder)
    bracket_figure(result.certificates, folder)
    if json:
        print_json(result.summary)
    else:
        print_summary(result.summary, folder=str(folder.path), reused=result.reused)
        if result.certificates:
            print_certificates(
                result.certificates, folder=str(folder.path), reused=result.reused_certificates
            )
    if not result.ok:
        raise typer.Exit(ExitCode.INVALID)


def make_engine(
    name: choices.EngineName,
    address: str | None,
    device: str,
    gpus_per_task: float | None,
    cpus_per_task: int,
    shard_images: int,
) -> "Engine | None":
    """Return the engine that does the work of a run; None: this process.

    Raises:
        BenchError: Ray is not installed, or a number makes no sense.
    """
    if name == "local":
        return None
    from robustbench_sde.runs.cluster.ray import RayEngine

    return RayEngine(
        address,
        device=device,
        cpus_per_task=cpus_per_task,
        gpus_per_task=gpus_per_task,
        shard_images=shard_images,
    )
