"""Define `sde-bench show`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sde.cli import options as o
from robustbench_sde.errors import BenchError, nearest, printable


def show_command(
    path: Annotated[
        str,
        typer.Argument(
            help="A checkpoint (also by its name in checkpoints/), the folder of a run, or a suite.",
        ),
    ],
    json: o.Json = False,
    robustbench: Annotated[
        bool, typer.Option("--robustbench", help="Print a run as entries of RobustBench's model_info (JSON).")
    ] = False,
) -> None:
    """Show what is in a checkpoint, a run or a suite.

    [bold]Example:[/bold] sde-bench show checkpoints/digits-ode.safetensors
    """
    import json as json_module

    from robustbench_sde.api.models import checkpoints_here
    from robustbench_sde.models.checkpoint import read_header
    from robustbench_sde.reporting.robustbench import robustbench_entries
    from robustbench_sde.reporting.terminal import print_entries, print_json, print_summary
    from robustbench_sde.runs.suite.suite import Suite, shipped_suites
    from robustbench_sde.storage.run_folder import RunFolder

    if path == "study/stability":
        raise BenchError("study/stability is no suite but a command; see sde-bench stability --help")
    place = Path(path)
    if robustbench and not place.is_dir():
        raise BenchError(f"--robustbench is about the folder of a run, which {path} is not")
    if place.is_dir():
        folder = RunFolder(place)
        summary, manifest = folder.read_summary(), folder.read_manifest()
        if robustbench:
            print(json_module.dumps(robustbench_entries(summary), indent=2))
            return
        if json:
            print_json(summary)
            return
        print_summary(summary, folder=path)
        whole = "complete" if manifest["complete"] else "stopped before its end"
        print(f"run: {whole}, by {printable(manifest['command'])}")
    elif place.suffix in (".yaml", ".yml") or (path in shipped_suites() and not place.exists()):
        suite = Suite.read(path)
        print_entries(suite.spec.model_dump(mode="json"), as_json=json)
    elif place.exists() or (place := Path("checkpoints") / f"{path}.safetensors").exists():
        print_entries(read_header(place).model_dump(mode="json"), as_json=json)
    else:
        near = nearest(path, [*shipped_suites(), *(found.stem for found in checkpoints_here())])
        hint = f"did you mean {near!r}?" if near else "give a checkpoint, the folder of a run, or a suite"
        raise BenchError(f"{path} does not exist; {hint}")
