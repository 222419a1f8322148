"""Define `sde-bench versus`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete, inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError

_COMPARISON = "Comparison"


def versus_command(
    context: typer.Context,
    networks: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="REFERENCE [CHECKPOINT]...",
            help="Reference, then the checkpoints to compare with it; default: all in checkpoints/ "
            "trained on the data set.",
            autocompletion=complete.checkpoints,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Compare the networks of this run; run nothing.",
            rich_help_panel=_COMPARISON,
            autocompletion=complete.runs,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint or kind to compare with; only with --run.", rich_help_panel=_COMPARISON
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATTERN,...",
            help="Pool checkpoints by name: sde=digits-mult*,ode=digits-ode*; may be repeated. Default: "
            "those that differ only in the seed of the training.",
            rich_help_panel=_COMPARISON,
        ),
    ] = None,
    allow_unequal: Annotated[
        bool,
        typer.Option(
            "--allow-unequal",
            help="Compare networks although they were attacked with unequal effort; prints a warning.",
            rich_help_panel=_COMPARISON,
        ),
    ] = False,
    attack: o.Attacks = None,
    norm: o.Norm = "linf",
    eps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BUDGETS",
            help="Budgets for images in [0, 1], separated by commas or repeated: 0.03 or 8/255.",
            show_default="0.03",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    steps: o.Steps = None,
    eot_draws: o.EotDraws = None,
    restarts: o.Restarts = None,
    budget: o.Budget = None,
    set_: o.SetParameters = None,
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
    images: o.Images = 200,
    sigma: o.Sigma = None,
    noise: o.Noise = True,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    smoothing: o.Smoothing = None,
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
    """Find out whether the noise helps: compare networks with a reference, image by image.

    The answer is printed first, as a sentence. Cells that are missing are computed as by `attack` and stored;
    after an interruption the same command continues. Writes versus.md, versus.tex, versus.json and a figure
    into the run folder.

    [bold]Example:[/bold] sde-bench versus digits-ode --eps 0.03,0.06
    """
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.versus import print_versus, print_versus_json, write_versus
    from robustbench_sde.storage.run_folder import RunFolder

    kinds = ",".join(kind) if kind else None
    if run is not None:
        if networks:
            raise BenchError("--run has its own networks; name the reference with --reference")
        if reference is None:
            raise BenchError("--run needs --reference, the name of a checkpoint or of a kind")
        found = rb.versus(reference, run=run, kinds=kinds, allow_unequal=allow_unequal)
    else:
        named = [*([Path(reference)] if reference else []), *(networks or [])]
        if not named:
            raise BenchError("name the reference, like `sde-bench versus digits-ode`, or give --run")
        options, data = inputs.shared(context), inputs.load_images(context)
        models = inputs.find_models(context, named[1:], data, options["device"])
        with progress_bars(quiet=quiet) as bars:
            found = rb.versus(
                named[0],
                models,
                data,
                inputs.find_attacks(attack, set_),
                kinds=kinds,
                allow_unequal=allow_unequal,
                norm=norm,
                eps=texts.parse_eps(eps or ["0.03"], norm),
                steps=steps,
                eot_draws=None if eot_draws is None else texts.parse_draws(eot_draws),
                restarts=restarts,
                passes=budget,
                **options,
                out=out or "auto",
                force=force,
                bars=bars,
            )
    if found.folder is not None:
        write_versus(found, RunFolder(found.folder))
    if json:
        print_versus_json(found)
    else:
        print_versus(found)
