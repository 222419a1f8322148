"""Define `sde-bench study`."""

from pathlib import Path
from typing import Annotated, Any

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete, inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode, unknown_name
from robustbench_sde.shipped import STUDIES, shipped_files


def study_command(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a study; sde-bench list studies shows all.", autocompletion=complete.studies
        ),
    ],
    checkpoints: o.Checkpoints = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be run and an estimate of the time.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set by name; default: the embedded digits.",
            rich_help_panel=o.DATA,
            autocompletion=complete.datasets,
        ),
    ] = None,
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
            help="Number of test images; default: the study's.",
            rich_help_panel=o.DATA,
        ),
    ] = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    smoothing: o.Smoothing = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; default: reports/study-NAME.", rich_help_panel=o.OUTPUT),
    ] = None,
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
    """Repeat a study of Liu et al. (CVPR 2020) on your checkpoints, with attacks through the noise.

    Prints a table and draws a figure. A study is a shipped suite (sde-bench show study/NAME); after an
    interruption the same command continues, and equal cells of other runs in reports/ are reused.

    [bold]Example:[/bold] sde-bench study clean --images 100
    """
    from robustbench_sde.reporting.corruptions import corruption_figure, print_corruptions
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.studies import study_table, write_study
    from robustbench_sde.reporting.terminal import make_console, print_footer, print_json, print_sentence
    from robustbench_sde.reporting.versus import read_versus
    from robustbench_sde.runs.words import summary_title

    studies = shipped_files(STUDIES)
    name = texts.spelled(name, studies)
    if name == "stability":
        raise BenchError("stability is a command of its own: `sde-bench stability`")
    if name not in studies:
        raise unknown_name("study", name, studies)
    options = inputs.shared(context)
    with progress_bars(quiet=quiet) as bars:
        result = rb.run(
            f"study/{name}",
            checkpoints or None,
            None if dataset is None else complete.dataset_name(dataset),
            images=images,
            data_dir=data_dir,
            download=download,
            image_size=image_size,
            resize=resize,
            crop=crop,
            interpolation=interpolation,
            class_order=class_order,
            **options,
            out=out or Path("reports") / f"study-{name}",
            force=force or ("suite" if out is None else False),
            dry_run=dry_run,
            planned=None if quiet or dry_run else lambda plan: typer.echo(str(plan), err=True),
            bars=bars,
        )
    if dry_run and result.plan is not None:
        print("\n".join([*result.plan.lines(), str(result.plan)]))
        return
    folder, summary, corruptions = inputs.folder_of(result), result.summary, result.corruptions
    place = str(folder.path)
    if corruptions is not None:
        corruption_figure(corruptions, folder)
    else:
        trained = {stem: rb.load_checkpoint(path).spec.sigma for stem, path in result.checkpoints.items()}
        rows, _ = write_study(name, summary, trained, folder)
    if json:
        print_json(rows if corruptions is None else summary)
    else:
        console = make_console()
        answer = read_versus(folder)
        for sentence in [] if answer is None else answer.sentences():
            print_sentence(console, sentence, "bold")
        if corruptions is not None:
            print_corruptions(corruptions, summary, folder=place, reused=result.reused, reference=None)
        else:
            console.print(study_table(console, name, rows, summary_title(summary)))
            print_footer(summary, folder=place, reused=result.reused)
    if not result.ok:
        raise typer.Exit(ExitCode.INVALID)
