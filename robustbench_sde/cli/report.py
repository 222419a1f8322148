"""Define `sde-bench report`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import complete
from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError


def report_command(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="A run: its folder, or its name in reports/; default: the newest run in reports/. Several "
            "runs make a leaderboard.",
            autocompletion=complete.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; default: that of the run, or reports/leaderboard.",
            rich_help_panel="Output",
        ),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a static site to write, for GitHub Pages: the leaderboard and each run's page.",
            rich_help_panel="Output",
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Write an HTML page about a run, and summary.md, summary.tex and figures; or a leaderboard of several.

    The page is one file, index.html, that opens from disk without a network. A run can be reported while it
    runs, or after it was stopped: the page then says what is missing. The leaderboard ranks models by their
    lowest accuracy under attack, at each budget; models that the images do not tell apart share a rank.

    [bold]Example:[/bold] sde-bench report reports/smoke
    """
    import json as json_module

    from robustbench_sde.reporting.html.page import write_report
    from robustbench_sde.reporting.leaderboard import write_leaderboard, write_site
    from robustbench_sde.storage.run_folder import RunFolder
    from robustbench_sde.storage.runs_here import REPORTS, find_run, newest_run

    if site is not None and out is not None:
        raise BenchError("--site and --out both name the folder to write; give one")
    places = [find_run(run) for run in runs or []] or [newest_run()]
    if site is not None:
        files = write_site(places, site)
    elif len(places) > 1:
        files = write_leaderboard(places, out or REPORTS / "leaderboard")
    else:
        folder = RunFolder(places[0])
        files = write_report(folder, folder if out is None else RunFolder(out))
    if json:
        print(json_module.dumps([str(path) for path in files], indent=2))
    else:
        for path in files:
            print(path)
