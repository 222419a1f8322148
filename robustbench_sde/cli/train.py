"""Define `sde-bench train`."""

import os
import time
from functools import partial
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde import choices
from robustbench_sde.cli import complete, inputs, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import InterruptedWorkError, counted

_TRAINING = "Training"
_MODEL = "Model"
_BASELINES = "Robust training"


def train_command(
    context: typer.Context,
    dataset: o.Dataset = "digits",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    image_size: o.ImageSize = None,
    resize: o.Resize = None,
    crop: o.Crop = None,
    interpolation: o.Interpolation = "bilinear",
    class_order: o.ClassOrder = None,
    preset: Annotated[
        str,
        typer.Option(help="Architecture by name; sde-bench list presets shows all.", rich_help_panel=_MODEL),
    ] = "digits",
    noise: Annotated[
        str,
        typer.Option(
            help="Noise: none (an ODE), a kind of sde-bench list noise, or several terms: "
            "additive:0.3+levy:0.2,alpha=1.5. ResNets and solvers of ODEs have none by default.",
            rich_help_panel=_MODEL,
        ),
    ] = "multiplicative",
    sigma: Annotated[
        float,
        typer.Option(
            help="Noise scale sigma; sde-bench list noise says what it scales.", rich_help_panel=_MODEL
        ),
    ] = 0.5,
    keep: Annotated[
        float | None,
        typer.Option(help="Share p that dropout keeps; sets sigma = sqrt((1-p)/p).", rich_help_panel=_MODEL),
    ] = None,
    noise_shape: Annotated[
        choices.NoiseShape,
        typer.Option(
            case_sensitive=False,
            help="Brownian motions: one for each entry (independent), for each channel, or for each image "
            "(scalar).",
            rich_help_panel=_MODEL,
        ),
    ] = "independent",
    sigma_growth: Annotated[
        float,
        typer.Option(help="Ratio sigma(T) / sigma(0); sigma is linear in between.", rich_help_panel=_MODEL),
    ] = 1.0,
    learn_sigma: Annotated[
        bool,
        typer.Option(
            "--learn-sigma", help="Train sigma as well; it starts at --sigma.", rich_help_panel=_MODEL
        ),
    ] = False,
    jump_rate: Annotated[
        float,
        typer.Option(help="Expected number of jumps per unit of time (jump noise).", rich_help_panel=_MODEL),
    ] = 2.0,
    levy_alpha: Annotated[
        float | None,
        typer.Option(
            help="Stability index alpha of Levy noise, above 1 and at most 2; default: 1.5.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    solver: Annotated[
        str,
        typer.Option(
            help="Solver: euler (Euler-Maruyama), milstein, heun; for ODEs also midpoint, rk4, dopri5.",
            rich_help_panel=_MODEL,
        ),
    ] = "euler",
    steps: Annotated[
        int | None,
        typer.Option(help="Number of solver steps N; default: that of the preset.", rich_help_panel=_MODEL),
    ] = None,
    horizon: Annotated[
        float, typer.Option(help="End time T of the integration, which starts at 0.", rich_help_panel=_MODEL)
    ] = 1.0,
    epochs: Annotated[
        int, typer.Option(help="Number of passes over the data.", rich_help_panel=_TRAINING)
    ] = 30,
    batch_size: Annotated[
        int, typer.Option(help="Number of images in each training step.", rich_help_panel=_TRAINING)
    ] = 64,
    lr: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=_TRAINING)] = 0.1,
    momentum: Annotated[
        float, typer.Option(help="Momentum of SGD (Nesterov).", rich_help_panel=_TRAINING)
    ] = 0.9,
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay of SGD.", rich_help_panel=_TRAINING)
    ] = 5e-4,
    schedule: Annotated[
        choices.Schedule,
        typer.Option(
            help="Schedule of the learning rate; step is the schedule of the paper.",
            case_sensitive=False,
            rich_help_panel=_TRAINING,
        ),
    ] = "one-cycle",
    precision: Annotated[
        choices.Precision,
        typer.Option(
            help="Number format of convolutions and linear maps; weights stay in fp32. bf16 is faster on "
            "GPUs and on CPUs with AVX-512 BF16 or AMX.",
            case_sensitive=False,
            rich_help_panel=_TRAINING,
        ),
    ] = "fp32",
    crop_padding: Annotated[
        int | None,
        typer.Option(
            help="Largest random shift in pixels; default: depends on the data set.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Flip images horizontally with probability 1/2; default: depends on the data set.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    augment_noise: Annotated[
        float,
        typer.Option(
            help="Standard deviation of Gaussian noise added to the images.", rich_help_panel=_BASELINES
        ),
    ] = 0.0,
    adversarial: Annotated[
        choices.Adversarial,
        typer.Option(
            case_sensitive=False,
            help="Adversarial training: pgd (Madry et al.) or trades (Zhang et al.).",
            rich_help_panel=_BASELINES,
        ),
    ] = "none",
    adversarial_norm: Annotated[
        str, typer.Option(help="Norm of the budget: linf or l2.", rich_help_panel=_BASELINES)
    ] = "linf",
    adversarial_eps: Annotated[
        str, typer.Option(help="Budget for images in [0, 1]: 0.03 or 8/255.", rich_help_panel=_BASELINES)
    ] = "8/255",
    adversarial_steps: Annotated[
        int, typer.Option(help="Number of gradient steps for each image.", rich_help_panel=_BASELINES)
    ] = 10,
    adversarial_step_size: Annotated[
        str | None,
        typer.Option(help="Size of a gradient step; default: 2.5 eps / steps.", rich_help_panel=_BASELINES),
    ] = None,
    trades_beta: Annotated[
        float,
        typer.Option(help="Weight of the Kullback-Leibler divergence in TRADES.", rich_help_panel=_BASELINES),
    ] = 6.0,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", rich_help_panel=_TRAINING)] = 0,
    device: o.Device = "auto",
    config: Annotated[
        str | None,
        typer.Option(
            help="YAML file with any of these options, or the name of a shipped file (sde-bench list "
            "configs); "
            "options on the command line override it.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing checkpoint.")] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Trackers that also get the numbers of each epoch: tensorboard, mlflow, wandb or those of "
            "plug-ins, separated by commas or repeated.",
            rich_help_panel=o.OUTPUT,
            autocompletion=complete.loggers,
        ),
    ] = None,
    out: o.OutCheckpoint = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a Neural ODE or SDE classifier and write a checkpoint after every epoch.

    The numbers of each epoch are in NAME.log.csv beside the checkpoint, and show draws their curve.

    [bold]Example:[/bold] sde-bench train --dataset digits --noise multiplicative --sigma 0.5
    """
    from robustbench_sde.reporting.progress import progress_bar
    from robustbench_sde.reporting.terminal import make_console, print_entries
    from robustbench_sde.reporting.training import EpochLines
    from robustbench_sde.runs.words import interval
    from robustbench_sde.training.config import TrainConfig

    typed = {name: value for name, value in context.params.items() if inputs.is_typed(context, name)}
    if levy_alpha is not None:
        typed["noise"] = texts.with_levy_alpha(noise, levy_alpha)
    started = time.perf_counter()
    try:
        with progress_bar(quiet=quiet or not _leads()) as progress:
            trained = rb.train(
                typed.get("dataset"),
                out,
                config=config,
                resume=resume,
                force=force,
                data_dir=data_dir,
                download=download,
                image_size=image_size,
                resize=resize,
                crop=crop,
                interpolation=interpolation,
                class_order=class_order,
                device=device,
                log=[*(log or []), partial(EpochLines, quiet=quiet)],
                progress=progress,
                **{name: value for name, value in typed.items() if name in TrainConfig.model_fields},
            )
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:  # before there was anything to go on from
            raise
        raise InterruptedWorkError("interrupted; the same command with --resume continues") from interrupt
    if not _leads():
        return
    result, seconds = trained.header.training, time.perf_counter() - started
    if json:
        about = {"path": str(trained.path), "seconds": seconds, **trained.header.model_dump(mode="json")}
        print_entries(about, as_json=True)
        return
    make_console().print(
        f"{trained.path}: test accuracy {interval(*result['test_accuracy'])} % of "
        f"{counted(result['test_images'], 'image')} ({counted(result['test_draws'], 'draw')}), "
        f"trained in {seconds:.0f} s",
        soft_wrap=True,
    )


def _leads() -> bool:
    """Whether this is the one that prints, of several processes that `torchrun` has started."""
    return os.environ.get("RANK", "0") == "0"
