"""Define `sde-bench show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sde.cli import complete
from robustbench_sde.cli import options as o
from robustbench_sde.cli.texts import spelled
from robustbench_sde.errors import BenchError, nearest, tell
from robustbench_sde.shipped import SUITES, shipped_files

if TYPE_CHECKING:
    from robustbench_sde.storage.run_state import RunState


def show_command(
    path: Annotated[
        str,
        typer.Argument(
            help="A checkpoint or a run (a path, or a name in checkpoints/ or reports/), a baseline file "
            "or a suite.",
            autocompletion=complete.shown,
        ),
    ],
    json: o.Json = False,
    output: o.TableFormat = "table",
    robustbench: Annotated[
        bool, typer.Option("--robustbench", help="Print a run as entries of RobustBench's model_info (JSON).")
    ] = False,
) -> None:
    """Show what a checkpoint, a run, a baseline or a suite contains; a run can be shown while it runs.

    JSON of a run is a list of rows; of an unfinished run it is an object with its state and `rows`.

    [bold]Example:[/bold] sde-bench show checkpoints/digits-ode.safetensors
    """
    from robustbench_sde.models.located import locate
    from robustbench_sde.storage.runs_here import resolve

    suites = shipped_files(SUITES)
    suite = spelled(path, suites)
    checkpoint = locate(Path(path))
    place = resolve(path)
    if place.is_dir() and suite not in suites and not (place != Path(path) and checkpoint.is_file()):
        _show_run(place, json=json, robustbench=robustbench)
    elif robustbench:
        raise BenchError(f"--robustbench needs the folder of a run, and {path} is not one")
    elif Path(path).suffix in (".yaml", ".yml") or (suite in suites and not Path(path).exists()):
        _show_suite(suite, json=json)
        if place.is_dir():
            tell(f"there is a run of this name, too: `sde-bench show {place}` shows it")
    elif Path(path).is_file() and Path(path).suffix == ".json":
        _show_baseline(Path(path), json=json)
    elif Path(path).exists() or checkpoint.exists():
        _show_checkpoint(checkpoint, json=json)
    else:
        near = nearest(path, [*suites, *complete.checkpoints(""), *complete.runs("")])
        hint = f"did you mean {near!r}?" if near else "give a checkpoint, a run, a baseline file or a suite"
        raise BenchError(f"{path} does not exist; {hint}")


def _show_run(place: Path, *, json: bool, robustbench: bool) -> None:
    import json as json_module

    from robustbench_sde.reporting.robustbench import robustbench_entries
    from robustbench_sde.reporting.terminal import print_json, print_summary
    from robustbench_sde.runs.checked import read_newest_summary
    from robustbench_sde.storage.run_folder import RunFolder
    from robustbench_sde.storage.run_state import state_of

    folder = RunFolder(place)
    state = state_of(folder)
    begun = state.planned and not state.stored
    if begun and not (json or robustbench or (place / "summary.parquet").exists()):
        _print_state(place, state)
        return
    if begun and json and not (place / "summary.parquet").exists():
        print(json_module.dumps({**state.described(), "rows": []}, indent=2))
        return
    finished = state.complete or not (state.planned or state.running)
    summary = read_newest_summary(folder, finished=finished)
    if robustbench:
        print(json_module.dumps(robustbench_entries(summary), indent=2))
        return
    if json:
        print_json(summary, None if finished else state)
        return
    print_summary(summary, folder=str(place))
    _print_state(place, state)


def _print_state(place: Path, state: "RunState") -> None:
    from robustbench_sde.reporting.terminal import make_console

    whole = {
        "running": f"a process is running in {place}",
        "stopped": "stopped before its end, and the same command continues",
    }.get(state.name, "complete")
    console = make_console()
    for sentence in (
        f"run: {whole}" + (f", by {state.command}" if state.command else ""),
        *state.sentences(),
    ):
        console.print(sentence, soft_wrap=True)


def _show_suite(name: str, *, json: bool) -> None:
    from robustbench_sde.reporting.terminal import print_entries
    from robustbench_sde.runs.suite.spec import SuiteSpec

    shipped = shipped_files(SUITES)
    if name in shipped:  # tests hold that these are right; the names of attacks in others need torch
        from robustbench_sde.storage.files import read_yaml

        spec = SuiteSpec.model_validate(read_yaml(shipped[name]))
    else:
        from robustbench_sde.runs.suite.suite import Suite

        spec = Suite.read(name).spec
    print_entries(spec.model_dump(mode="json"), as_json=json)


def _show_baseline(path: Path, *, json: bool) -> None:
    from robustbench_sde.regression.baseline import read_baseline
    from robustbench_sde.reporting.terminal import print_entries

    side = read_baseline(path)
    images = {len(cell.ids) for cell in side.cells}
    print_entries(
        {
            **side.made,
            "images": ", ".join(map(str, sorted(images))),
            "accuracy": {cell.facts.label: f"{100 * cell.correct.mean():.1f}" for cell in side.cells},
        },
        as_json=json,
    )


def _show_checkpoint(path: Path, *, json: bool) -> None:
    from robustbench_sde.models.header import read_header
    from robustbench_sde.reporting.terminal import print_entries
    from robustbench_sde.reporting.training import print_history
    from robustbench_sde.training.history import of_header

    header = read_header(path)
    if json:
        print_entries(header.model_dump(mode="json"), as_json=True)
        return
    history = of_header(header.training)
    if history is not None:
        header.training.pop("history")
    print_entries(header.model_dump(mode="json"), as_json=False)
    if history is not None:
        print_history(history)
    if header.unfinished:
        print(f"training: {header.unfinished}")
