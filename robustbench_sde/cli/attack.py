"""Define `sde-bench attack`."""

from pathlib import Path
from typing import Annotated, Any

import typer

import robustbench_sde as rb
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, ExitCode

_ATTACK = "Attack"


def attack_command(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(help="Checkpoints; default: all in checkpoints/ trained on the data set."),
    ] = None,
    attack: Annotated[
        str, typer.Option(help="Attacks by name, with commas.", rich_help_panel=_ATTACK)
    ] = "pgd",
    norm: Annotated[str, typer.Option(help="linf or l2.", rich_help_panel=_ATTACK)] = "linf",
    eps: Annotated[
        str,
        typer.Option(
            help="Budgets for images in [0, 1], with commas: 0.03 or 8/255; none: the smallest change.",
            rich_help_panel=_ATTACK,
        ),
    ] = "0.03",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Steps or queries at a fixed budget; default: the attack's own. "
            "Minimal-norm attacks: --set cw.steps=200.",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    eot_draws: Annotated[
        str | None,
        typer.Option(
            help="Fresh draws averaged in every gradient; auto: as many as each image needs. Default: the "
            "attack's own, 8 or 1 (liu2020).",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    restarts: Annotated[
        int | None,
        typer.Option(
            help="Independent runs; the worst counts. Default: the attack's own, 1 or 10 (noise).",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            help="At most so many gradient passes per image, each draw counted: steps are cut to fit.",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Go for a class: its index, random or least-likely (pgd, apgd-ce, apgd-dlr).",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint that transfer works on; default: the target, noise off.", rich_help_panel=_ATTACK
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of one attack: ATTACK.NAME=VALUE.", rich_help_panel=_ATTACK),
    ] = None,
    model: o.Model = None,
    weights: o.Weights = None,
    normalize: o.Normalize = None,
    save_images: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Write the attacked images to images/ in the run folder: npz or safetensors.",
            rich_help_panel="Output",
        ),
    ] = None,
    dataset: o.Dataset = "digits",
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
    """Attack checkpoints through their noise, score them on fresh draws, print the table, write a run folder.

    A minimal-norm attack that does not know --norm (cw has only l2) looks for the smallest perturbation
    instead of filling --eps; its row gives quartiles of the distance.

    [bold]Example:[/bold] sde-bench attack --attack pgd,cw --eps 0.03,8/255 --eot-draws 8 --images 200
    """
    from robustbench_sde.models.compute import Compute
    from robustbench_sde.reporting.distances import accuracy_against_distance
    from robustbench_sde.reporting.figures import accuracy_against_eps
    from robustbench_sde.reporting.progress import progress_bars
    from robustbench_sde.reporting.terminal import print_json, print_summary

    compute = Compute.of(device, noise_backend=noise_backend, memory_limit=memory_limit, compile=compile_)
    attacks = _with_parameters(o.names(attack), set_ or [])
    budgets = [None] if eps.strip() == "none" else o.parse_eps(eps)
    data = o.test_data(dataset, data_dir, download, image_size, images)
    models = o.find_models(
        checkpoints, model, weights, normalize, data, sigma=sigma, noise=noise, compute=compute
    )
    with progress_bars(quiet=quiet) as bars:
        result = rb.attack(
            models,
            data,
            attacks,
            norm=norm,
            eps=budgets,
            eot_draws=None if eot_draws is None else _draws(eot_draws),
            restarts=restarts,
            steps=steps,
            passes=budget,
            target=target,
            source=None if source is None else str(source),
            sigma=sigma,
            noise=noise,
            precision=precision,
            score_draws=score_draws,
            rule=rule,  # type: ignore[arg-type]
            seed=seed,
            batch_size=batch_size,
            device=compute,
            out=out or "auto",
            save_images=save_images,
            bars=bars,
        )
    folder = o.folder_of(result)
    accuracy_against_eps(result.summary, folder)
    accuracy_against_distance(result.summary, folder, folder)
    if json:
        print_json(result.summary)
    else:
        print_summary(result.summary, folder=str(folder.path), reused=result.reused)
    if not result.ok:
        raise typer.Exit(ExitCode.INVALID)


def _draws(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise BenchError(f"--eot-draws is {text!r}; it must be a whole number or auto")
    return text if text == "auto" else int(text)


def _with_parameters(names: list[str], texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return attacks by name with the parameters that `--set` gives to each, like ``cw.steps=200``."""
    from robustbench_sde.storage.files import parse_scalar

    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in texts:
        target, equals, value = text.partition("=")
        name, dot, parameter = target.partition(".")
        if not (equals and dot):
            raise BenchError(f"--set {text!r}: write ATTACK.NAME=VALUE, like cw.steps=200")
        if name not in own:
            raise BenchError(f"--set names {name!r}, which is not in --attack {','.join(names)}")
        own[name][parameter] = parse_scalar(value)
    return own
