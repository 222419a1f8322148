"""`sde-bench study`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.cli.stability import stability_command
from robustbench_sde.errors import ExitCode, unknown_name

#: the study that is a command of its own
STABILITY = "stability"


def study_command(
    name: Annotated[str, typer.Argument(help="A study: see sde-bench list studies.")],
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoints; default: all in checkpoints/ trained on the data set."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run and how long it may take.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="Data set by name; default: the embedded digits.", rich_help_panel="Data"),
    ] = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    images: Annotated[
        int | None, typer.Option(help="How many test images; default: the study's.", rich_help_panel="Data")
    ] = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    noise_backend: o.NoiseBackend = "host",
    batch_size: o.BatchSize = 256,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Rerun a study of Liu et al. (CVPR 2020) on your checkpoints, with honest attacks: a table and a figure.

    A study is a shipped suite (sde-bench show study/NAME) and is resumed by the same command; its cells are
    shared with other runs in reports/.

    [bold]Example:[/bold] sde-bench study clean --images 100
    """
    if name == STABILITY:
        stability_command(
            checkpoints,
            dataset=dataset or "digits",
            data_dir=data_dir,
            download=download,
            image_size=image_size,
            images=images or 20,
            device=device,
            noise_backend=noise_backend,
            batch_size=batch_size,
            out=Path("reports") / "study-stability",
            json=json,
            quiet=quiet,
        )
        return
    from robustbench_sde.data import load_dataset
    from robustbench_sde.models.checkpoint import read_header
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.reporting.corruptions import corruption_figure, print_corruptions
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.studies import study_table, write_study
    from robustbench_sde.reporting.terminal import make_console, print_footer, print_json, summary_title
    from robustbench_sde.results.run_folder import RunFolder
    from robustbench_sde.suite.corruption import check_names, write_corruptions
    from robustbench_sde.suite.plan import Plan
    from robustbench_sde.suite.run import run_cells
    from robustbench_sde.suite.suite import Suite, study_suites

    studies = study_suites()
    if name not in studies:
        raise unknown_name("study", name, [*studies, STABILITY])
    suite = Suite.read(studies[name])
    loaded = load_dataset(
        dataset or suite.spec.dataset,
        split="test",
        images=images or suite.spec.images,
        data_dir=data_dir,
        download=download,
        image_size=image_size,
    )
    paths = o.find_checkpoints(checkpoints, loaded.name)
    check_names(paths)
    folder = RunFolder(Path("reports") / f"study-{name}")
    compute = Compute.of(device, noise_backend=noise_backend)
    cells = suite.cells(paths, loaded, rows=batch_size, precision=precision)
    plan = Plan.of(cells, loaded, folder, compute=compute, cache=True)
    if dry_run:
        print("\n".join([*plan.lines(), str(plan)]))
        return
    if not quiet:
        typer.echo(str(plan), err=True)
    with progress_bars(quiet=quiet) as bars:
        run = run_cells(cells, loaded, folder, compute=compute, bars=bars, cache=True, about=suite.about())
    folder.write_text("suite.yaml", suite.document.text)
    if name == "corruption":
        corruptions = write_corruptions(run, cells, loaded)
        corruption_figure(corruptions, folder)
    else:
        train_sigma = {path.stem: read_header(path).model.sigma for path in paths}
        rows, _ = write_study(name, run.summary, train_sigma, folder)
    if json:
        print_json(run.summary if name == "corruption" else rows)
    elif name == "corruption":
        print_corruptions(
            corruptions, run.summary, folder=str(folder.path), reused=run.reused, reference=None
        )
    else:
        make_console().print(study_table(name, rows, summary_title(run.summary)))
        print_footer(run.summary, folder=str(folder.path), reused=run.reused)
    if (run.summary["status"] != "ok").any():
        raise typer.Exit(ExitCode.INVALID)
