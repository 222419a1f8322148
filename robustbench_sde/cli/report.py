"""Define `sde-bench report`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError


def report_command(
    run: Annotated[
        Path | None, typer.Argument(help="The folder of a run; default: the newest in reports/.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: that of the run.", rich_help_panel="Output")
    ] = None,
    json: o.Json = False,
) -> None:
    """Write index.html about a run: one file that opens from disk; also summary.md, summary.tex and figures.

    [bold]Example:[/bold] sde-bench report reports/digits
    """
    import json as json_module

    from robustbench_sde.reporting.html.page import write_report
    from robustbench_sde.storage.run_folder import RunFolder

    folder = RunFolder(run or _newest())
    files = write_report(folder, folder if out is None else RunFolder(out))
    if json:
        print(json_module.dumps([str(path) for path in files], indent=2))
    else:
        for path in files:
            print(path)


def _newest() -> Path:
    summaries = sorted(Path("reports").glob("*/summary.parquet"), key=lambda path: path.stat().st_mtime)
    if not summaries:
        raise BenchError("reports/ holds no run; name the folder of one, or make one with `sde-bench attack`")
    return summaries[-1].parent
