"""Define `sde-bench compare` and `sde-bench baseline`."""

from pathlib import Path
from typing import Annotated

import typer

import robustbench_sde as rb
from robustbench_sde.cli import complete
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, counted

_GATE = "Gate"
_OUTPUT = "Output"

Run = Annotated[
    Path, typer.Argument(help="A run: its folder, or its name in reports/.", autocompletion=complete.runs)
]
Side = Annotated[
    Path,
    typer.Argument(
        help="A run (its folder, or its name in reports/), or a baseline file.", autocompletion=complete.runs
    ),
]


def compare_command(
    baseline: Side,
    run: Side,
    policy: Annotated[
        Path | None, typer.Option(help="YAML file with limits for each cell.", rich_help_panel=_GATE)
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Largest drop of an accuracy that is tolerated: 0.02 is two percentage points. "
            "Default: that of the policy, or 0.02.",
            rich_help_panel=_GATE,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Probability of a false verdict over all cells. Default: that of the policy, or 0.05.",
            rich_help_panel=_GATE,
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown",
            help="Print Markdown; in a GitHub job append it to the summary page of the job and add "
            "annotations.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    show_all: Annotated[
        bool,
        typer.Option("--all", help="Show the cells that are ok, too.", rich_help_panel=_OUTPUT),
    ] = False,
    comment: Annotated[
        Path | None,
        typer.Option(
            help="Write a comment for a pull request into this file (Markdown).", rich_help_panel=_OUTPUT
        ),
    ] = None,
    badge: Annotated[
        Path | None,
        typer.Option(
            help="Write the JSON of a badge into this file (endpoint of shields.io).", rich_help_panel=_OUTPUT
        ),
    ] = None,
    junit_xml: Annotated[
        Path | None,
        typer.Option(
            help="Write a JUnit XML file with one test case for each cell.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    force: o.ForceFile = False,
    json: o.Json = False,
    output: o.TableFormat = "table",
) -> None:
    """Find out whether robustness has regressed: compare a run with a baseline, image by image.

    The exit code is 0 if no accuracy drops by more than --max-drop, 1 for a regression, 2 if the runs are not
    comparable, 3 if there are too few images to decide, and 4 if the run is not valid. docs/ci.md explains
    the verdicts. The verdict and counts come first, then the cells that changed; --all shows the others.

    The baseline in the repository, reports/baseline-digits.json, has 360 images; compare it with
    `sde-bench run smoke --images 360`.

    [bold]Example:[/bold] sde-bench compare reports/baseline-digits.json reports/smoke --max-drop 0.02
    """
    from robustbench_sde.reporting import comparison as show
    from robustbench_sde.storage.runs_here import resolve

    if json and markdown:
        raise BenchError("--json and --markdown both write to stdout; give one")
    show.check_files(comment=comment, badge=badge, junit_xml=junit_xml, force=force)
    comparison = rb.compare(resolve(baseline), resolve(run), policy=policy, max_drop=max_drop, alpha=alpha)
    if junit_xml is not None:
        show.write_junit(comparison, junit_xml)
    if comment is not None:
        show.write_comment(comparison, comment)
    if badge is not None:
        show.write_badge(comparison, badge)
    page = show.github_step_summary() if markdown else None
    if json:
        show.print_comparison_json(comparison)
    elif markdown and page is None:
        print(show.comparison_markdown(comparison), end="")
    else:
        show.print_comparison(comparison, show_all=show_all)
    if page is not None:
        show.write_step_summary(comparison, page)
        for line in show.annotations(comparison):
            print(line)
    raise typer.Exit(comparison.exit_code)


baseline_app = typer.Typer(help="Save runs as baselines: files that are small enough to commit.")


@baseline_app.callback()
def _baseline() -> None:
    """Save runs as baselines: files that are small enough to commit."""


@baseline_app.command("save")
def save_command(
    run: Run,
    file: Annotated[Path, typer.Argument(help="File to write, like reports/baseline.json.")],
    force: o.ForceFile = False,
    json: o.Json = False,
) -> None:
    """Write a run into one text file that `compare` reads.

    [bold]Example:[/bold] sde-bench baseline save reports/smoke reports/baseline.json
    """
    from robustbench_sde.api.result import Result
    from robustbench_sde.reporting.terminal import print_entries
    from robustbench_sde.storage.runs_here import resolve

    cells = Result.read(resolve(run)).save_baseline(file, force=force)
    size = file.stat().st_size
    if json:
        print_entries({"path": str(file), "cells": cells, "bytes": size}, as_json=True)
        return
    print(f"{file}: {counted(cells, 'cell')}, {size / 1000:.0f} kB")
