"""Define `sde-bench report`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import complete
from robustbench_sde.cli import options as o


def report_command(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="A run: its folder, or its name in reports/; default: the newest run in reports/.",
            autocompletion=complete.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: that of the run.", rich_help_panel="Output")
    ] = None,
    json: o.Json = False,
) -> None:
    """Write an HTML page about a run, and summary.md, summary.tex and figures.

    The page is one file, index.html, that opens from disk without a network.

    [bold]Example:[/bold] sde-bench report reports/digits
    """
    import json as json_module

    from robustbench_sde.reporting.html.page import write_report
    from robustbench_sde.storage.run_folder import RunFolder
    from robustbench_sde.storage.runs_here import find_run, newest_run

    folder = RunFolder(find_run(run) if run else newest_run())
    files = write_report(folder, folder if out is None else RunFolder(out))
    if json:
        print(json_module.dumps([str(path) for path in files], indent=2))
    else:
        for path in files:
            print(path)
