"""Define `sde-bench gate`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete, texts
from robustbench_sde.cli import options as o
from robustbench_sde.errors import counted

gate_app = typer.Typer(help="Set up a gate: a workflow that fails when robustness has regressed.")


@gate_app.callback()
def _gate() -> None:
    """Set up a gate: a workflow that fails when robustness has regressed."""


@gate_app.command("init")
def init_command(
    checkpoints: o.Checkpoints = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Attacks with a budget, separated by commas or repeated.",
            show_default="pgd",
            rich_help_panel=o.ATTACK,
            autocompletion=complete.attacks,
        ),
    ] = None,
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
    dataset: o.Dataset = "digits",
    data_dir: o.DataDir = None,
    download: o.Download = False,
    images: o.Images = 360,
    max_drop: Annotated[
        float,
        typer.Option(
            help="Largest drop of an accuracy that is tolerated: 0.02 is two percentage points.",
            rich_help_panel="Gate",
        ),
    ] = 0.02,
    install: Annotated[
        str | None,
        typer.Option(
            metavar="REQUIREMENT",
            help="What `pip install` takes in the workflow, like git+https://HOST/OWNER/NAME@COMMIT; "
            "default: sde-bench as it is installed here.",
            rich_help_panel="Gate",
        ),
    ] = None,
    device: o.Device = "auto",
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the files of an earlier gate.", rich_help_panel=o.OUTPUT),
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write all files of a gate for your checkpoints, and measure its baseline.

    Writes robustness/suite.yaml, policy.yaml and baseline.json, .github/workflows/robustness.yml, and a line
    in .gitignore, into the current folder. The workflow installs PyTorch for CPUs and a fixed revision of
    sde-bench, compares every push and pull request with the baseline, and comments on pull requests.

    [bold]Example:[/bold] sde-bench gate init digits-ode --eps 0.03 --images 200
    """
    import json as json_module

    from robustbench_sde.reporting.progress import progress_bars

    with progress_bars(quiet=quiet) as bars:
        made = rb.init_gate(
            checkpoints or None,
            complete.dataset_name(dataset),
            attack=texts.names(attack or ["pgd"], complete.known("attacks")),
            norm=norm,
            eps=texts.parse_eps(eps or ["0.03"], norm),
            images=images,
            max_drop=max_drop,
            data_dir=data_dir,
            download=download,
            install=install,
            device=device,
            force=force,
            bars=bars,
        )
    if json:
        print(
            json_module.dumps(
                {"files": list(map(str, made.files)), "cells": made.cells, "to_do": list(made.to_do)},
                indent=2,
            )
        )
        return
    for path in made.files:
        print(path)
    print(f"baseline: {counted(made.cells, 'cell')}, {Path(made.files[-1]).stat().st_size / 1000:.0f} kB")
    for number, sentence in enumerate(made.to_do, 1):
        print(f"{number}. {sentence}")
