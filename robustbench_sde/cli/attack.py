"""Define `sde-bench attack`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde import choices
from robustbench_sde.cli import inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import ExitCode


def attack_command(
    context: typer.Context,
    checkpoints: o.Checkpoints = None,
    attack: o.Attacks = None,
    norm: o.Norm = "linf",
    eps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BUDGETS",
            help="Budgets for images in [0, 1], separated by commas or repeated: 0.03 or 8/255; none: "
            "find the smallest "
            "perturbation.",
            show_default="0.03",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    steps: o.Steps = None,
    eot_draws: o.EotDraws = None,
    restarts: o.Restarts = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Number of random points that noise scores: so many for each image, a draw at each, in "
            "place of the worst of --restarts. --set noise.law=gaussian changes the law.",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    budget: o.Budget = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Target class: an index, random or least-likely (pgd, apgd-ce, apgd-dlr).",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint whose gradients the attack transfer uses; default: the attacked one without "
            "noise.",
            rich_help_panel=o.ATTACK,
        ),
    ] = None,
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
    smoothing: o.Smoothing = None,
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    score_draws: o.ScoreDraws = 32,
    rule: o.RuleOption = "mean-prob",
    tries: Annotated[
        int | None,
        typer.Option(
            help="Also print the accuracy after so many tries: an attacker may submit each image "
            "this many times.",
            rich_help_panel=o.SCORING,
        ),
    ] = None,
    try_draws: Annotated[
        int,
        typer.Option(
            help="Number of draws for one submission of --tries, averaged by --rule.",
            rich_help_panel=o.SCORING,
        ),
    ] = 1,
    seed: o.Seed = 0,
    save_images: Annotated[
        choices.ImageFormat | None,
        typer.Option(
            help="Write the attacked images in this format, to images/ in the run folder.",
            case_sensitive=False,
            rich_help_panel=o.OUTPUT,
        ),
    ] = None,
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
    """Attack checkpoints through their noise and score them on fresh draws.

    Prints the table and writes a run folder.

    A minimal-norm attack that does not support --norm (cw has only l2) ignores --eps and looks for the
    smallest perturbation; its row gives quartiles of the distance.

    [bold]Example:[/bold] sde-bench attack --attack pgd,cw --eps 0.03,8/255 --eot-draws 8 --images 200
    """
    from robustbench_sde.reporting.distances import accuracy_against_distance
    from robustbench_sde.reporting.figures import accuracy_against_eps
    from robustbench_sde.reporting.four_curves import four_curves
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json, print_summary
    from robustbench_sde.reporting.tries import accuracy_against_tries

    options = inputs.shared(context)
    attacks = inputs.find_attacks(attack, set_)
    budgets = [None] if texts.parts(eps or []) == ["none"] else texts.parse_eps(eps or ["0.03"], norm)
    data = inputs.load_images(context)
    models = inputs.find_models(context, checkpoints, data, options["device"])
    with progress_bars(quiet=quiet) as bars:
        result = rb.attack(
            models,
            data,
            attacks,
            norm=norm,
            eps=budgets,
            eot_draws=None if eot_draws is None else texts.parse_draws(eot_draws),
            restarts=restarts,
            steps=steps,
            samples=samples,
            passes=budget,
            target=target,
            source=None if source is None else str(source),
            **options,
            tries=tries,
            try_draws=try_draws,
            out=out or "auto",
            force=force,
            save_images=save_images,
            bars=bars,
        )
    folder = inputs.folder_of(result)
    accuracy_against_eps(result.summary, folder)
    accuracy_against_distance(folder)
    accuracy_against_tries(result.summary, folder, folder)
    four_curves(result.summary, folder, folder)
    summary = result.summary if tries is None else result.with_survival(tries)
    if json:
        print_json(summary)
    else:
        print_summary(summary, folder=str(folder.path), reused=result.reused, tries=tries)
    if not result.ok:
        raise typer.Exit(ExitCode.INVALID)
