"""`sde-bench run`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode, unknown_name

if TYPE_CHECKING:
    from robustbench_sde.suite.engine import Engine

_RAY = "Ray"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def run_command(
    suite: Annotated[str, typer.Argument(help="A suite file, or the name of a shipped suite.")],
    checkpoints: Annotated[
        list[Path] | None, typer.Argument(help="Checkpoints; default: those of the suite.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Folder of the run in reports/; default: the suite's name.", rich_help_panel="Output"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run and how long it may take.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Take over equal cells of other runs in reports/.")
    ] = True,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    images: Annotated[
        int | None, typer.Option(help="How many test images; default: the suite's.", rich_help_panel="Data")
    ] = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    noise_backend: o.NoiseBackend = "host",
    memory_limit: o.MemoryLimit = None,
    compile_: o.Compile = False,
    batch_size: o.BatchSize = 256,
    engine: Annotated[
        str, typer.Option(help="Who does the work: local (this process) or ray.", rich_help_panel=_RAY)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Of a Ray cluster: auto or ray://HOST:10001; default: one that is started here.",
            envvar="RAY_ADDRESS",
            show_envvar=False,
            rich_help_panel=_RAY,
        ),
    ] = None,
    gpus_per_task: Annotated[
        float | None,
        typer.Option(
            help="0.5: two tasks share a GPU; default: 1 where there are GPUs.", rich_help_panel=_RAY
        ),
    ] = None,
    cpus_per_task: Annotated[
        int, typer.Option(help="Cores, and threads, of a task.", rich_help_panel=_RAY)
    ] = 1,
    shard_images: Annotated[
        int, typer.Option(help="Images in a task, rounded up to whole batches.", rich_help_panel=_RAY)
    ] = 256,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run a suite: every checkpoint under every perturbation of a YAML file.

    The same command goes on where a stopped one was. A cell that fails is listed with its reason, does not
    stop the others, and makes the exit code 4.

    [bold]Example:[/bold] sde-bench run smoke
    """
    import pandas as pd

    from robustbench_sde.data import load_dataset
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.reporting.corruptions import corruption_figure
    from robustbench_sde.reporting.distances import accuracy_against_distance
    from robustbench_sde.reporting.figures import accuracy_against_eps
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json, print_summary
    from robustbench_sde.results.run_folder import RunFolder
    from robustbench_sde.suite.corruption import check_names, write_corruptions
    from robustbench_sde.suite.plan import Plan
    from robustbench_sde.suite.run import run_cells
    from robustbench_sde.suite.suite import Suite

    chosen = Suite.read(suite)
    spec = chosen.spec
    folder = RunFolder(Path("reports") / run_folder_name(chosen.name if name is None else name))
    worker = make_engine(engine, address, device, gpus_per_task, cpus_per_task, shard_images)
    compute = Compute.of(
        "auto" if engine == "ray" else device,
        noise_backend=noise_backend,
        memory_limit=memory_limit,
        compile=compile_,
    )
    with chosen.document.blame("dataset"):
        data = load_dataset(
            spec.dataset,
            split="test",
            images=images or spec.images,
            data_dir=data_dir or spec.data_dir,
            download=download,
            image_size=spec.image_size,
        )
    paths = o.find_checkpoints(checkpoints or chosen.checkpoints(), data.name)
    check_names(paths)
    cells = chosen.cells(paths, data, rows=batch_size, precision=precision)
    plan = Plan.of(cells, data, folder, compute=compute, cache=cache)
    if dry_run:
        if json:
            print_json(pd.DataFrame(plan.rows()))
        else:
            print(
                "\n".join(
                    [*plan.lines(), str(plan), *([plan.with_workers(shard_images)] if plan.seconds else [])]
                )
            )
        return
    if not quiet:
        typer.echo(str(plan), err=True)
    with progress_bars(quiet=quiet) as bars:
        run = run_cells(
            cells,
            data,
            folder,
            engine=worker,
            compute=compute,
            bars=bars,
            cache=cache,
            about=chosen.about(),
        )
    folder.write_text("suite.yaml", chosen.document.text)
    accuracy_against_eps(run.summary, folder)
    accuracy_against_distance(run.summary, folder, folder)
    if chosen.has_corruptions:
        corruption_figure(write_corruptions(run, cells, data), folder)
    if json:
        print_json(run.summary)
    else:
        print_summary(run.summary, folder=str(folder.path), reused=run.reused)
    if (run.summary["status"] != "ok").any():
        raise typer.Exit(ExitCode.INVALID)


def make_engine(
    name: str,
    address: str | None,
    device: str,
    gpus_per_task: float | None,
    cpus_per_task: int,
    shard_images: int,
) -> "Engine":
    """The engine that does the work of a run.

    Raises:
        BenchError: there is none of that name, Ray is not installed, or a number makes no sense.
    """
    if name == "local":
        from robustbench_sde.suite.engine import LocalEngine

        return LocalEngine()
    if name != "ray":
        raise unknown_name("engine", name, ("local", "ray"))

    from robustbench_sde.suite.ray_engine import RayEngine

    return RayEngine(
        address,
        device=device,
        cpus_per_task=cpus_per_task,
        gpus_per_task=gpus_per_task,
        shard_images=shard_images,
    )


def run_folder_name(name: str) -> str:
    """A name that stays inside reports/.

    Raises:
        BenchError: it does not.
    """
    if not _NAME.fullmatch(name):
        raise BenchError(f"--name {name!r}: letters, digits, '.', '_' and '-' only, no path")
    return name
