"""Define `sde-bench audit`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete, inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode, counted, tell


def audit_command(
    context: typer.Context,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint: a file, or a name in checkpoints/. Give --model instead to audit another "
            "module.",
            autocompletion=complete.checkpoints,
        ),
    ] = None,
    norm: o.Norm = "linf",
    eps: Annotated[
        str | None,
        typer.Option(
            help="Budget of the audited accuracy: 0.03 or 8/255; default: 0.03 (linf), 0.5 (l2).",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Number of steps of pgd.", rich_help_panel=o.ATTACK)] = 20,
    eot_draws: Annotated[
        int, typer.Option(help="Number of fresh draws averaged in every gradient.", rich_help_panel=o.ATTACK)
    ] = 8,
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
    images: o.Images = 50,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    smoothing: o.Smoothing = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    seed: o.Seed = 0,
    out: o.Out = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace another audit of this checkpoint in the folder.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = False,
    json: o.Json = False,
    output: o.TableFormat = "table",
    quiet: o.Quiet = False,
    noise_backend: o.NoiseBackend = "auto",
    memory_limit: o.MemoryLimit = None,
    compile_: o.Compile = False,
    graphs: o.Graphs = True,
    batch_size: o.BatchSize = 256,
) -> None:
    """Check whether the accuracy of a checkpoint under attack can be trusted.

    Looks for masked gradients and for controls that fail. Prints one line for each rule with its verdict
    (pass, warn, inconclusive, fail or skip) and its numbers, and writes audits/CHECKPOINT.json into the run
    folder --out. The exit code is 4 if a rule fails, and 3 if there are too few images to decide.

    [bold]Example:[/bold] sde-bench audit digits-ode --eps 8/255
    """
    from robustbench_sde.evaluation.audit.report import AuditReport, AuditVerdict, default_folder
    from robustbench_sde.reporting.audit import print_audit
    from robustbench_sde.reporting.progress import progress_bars

    if (checkpoint is None) == (model is None):
        raise BenchError("an audit takes exactly one classifier: name a checkpoint or give --model")
    options = inputs.shared(context)
    budget = texts.parse_one_eps(eps, norm)
    data = inputs.load_images(context)
    named = None if checkpoint is None else [checkpoint]
    models = inputs.find_models(context, named, data, options["device"])
    assert models is not None  # one of the two was given

    def check_place(report: AuditReport) -> None:
        place = out or default_folder(report, checkpoint)
        other = report.replaced_in(place)
        if other is None:
            return
        said = f"{place} holds another audit of {other.checkpoint} ({counted(other.images, 'image')}, "
        said += f"seed {other.seed}, {other.setting or 'by an earlier version'})"
        if out is not None and not force:
            raise BenchError(f"{said}; give --force to replace it, or another --out")
        tell(f"{said}, which is replaced")

    with progress_bars(quiet=quiet) as bars:
        report = rb.audit(
            models[0],
            data,
            norm=norm,
            eps=budget,
            steps=steps,
            eot_draws=eot_draws,
            **options,
            planned=check_place,
            bars=bars,
        )
    written = report.write(out or default_folder(report, checkpoint))
    if json:
        print(report.to_json())
    else:
        print_audit(report, path=str(written))
    if report.verdict == AuditVerdict.INCONCLUSIVE:
        raise typer.Exit(ExitCode.INCONCLUSIVE)
    if report.verdict == AuditVerdict.FAIL:
        raise typer.Exit(ExitCode.INVALID)
