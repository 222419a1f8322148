"""Build the `sde-bench` program. Heavy imports happen inside commands, so that --help answers at once."""

import functools
import inspect
import os
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from robustbench_sde.cli.attack import attack_command
from robustbench_sde.cli.audit import audit_command
from robustbench_sde.cli.certify import certify_command
from robustbench_sde.cli.command import OnceCommand, UsageError
from robustbench_sde.cli.compare import baseline_app, compare_command
from robustbench_sde.cli.corrupt import corrupt_command
from robustbench_sde.cli.gate import gate_app
from robustbench_sde.cli.import_ import import_command
from robustbench_sde.cli.interrupt import how_to_go_on, how_to_see_it, interruptible
from robustbench_sde.cli.list_ import list_command
from robustbench_sde.cli.messages import with_options
from robustbench_sde.cli.preview import preview_command
from robustbench_sde.cli.report import report_command
from robustbench_sde.cli.run import run_command
from robustbench_sde.cli.score import score_command
from robustbench_sde.cli.show import show_command
from robustbench_sde.cli.stability import stability_command
from robustbench_sde.cli.study import study_command
from robustbench_sde.cli.train import train_command
from robustbench_sde.cli.versus import versus_command
from robustbench_sde.errors import (
    BenchError,
    BenchWarning,
    ExitCode,
    InterruptedWorkError,
    in_our_words,
    one_line,
    printable,
)
from robustbench_sde.limits import keep_to_quota
from robustbench_sde.output import OutputError, own_stdout
from robustbench_sde.version import __version__

app = typer.Typer(
    name="sde-bench",
    help="How robust is a classifier whose forward pass is random? "
    "Train Neural ODE and SDE image classifiers, attack them through their noise, and score them on fresh "
    "draws.",
    epilog="Example: sde-bench attack --eps 0.03   (attacks the shipped checkpoints on the embedded digits)",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("train")(train_command)
app.command("attack")(attack_command)
app.command("corrupt")(corrupt_command)
app.command("run")(run_command)
app.command("score")(score_command)
app.command("audit")(audit_command)
app.command("certify")(certify_command)
app.command("stability")(stability_command)
app.command("study")(study_command)
app.command("versus")(versus_command)
app.command("compare")(compare_command)
app.add_typer(baseline_app, name="baseline")
app.add_typer(gate_app, name="gate")
app.command("preview")(preview_command)
app.command("report")(report_command)
app.command("import")(import_command)
app.command("list")(list_command)
app.command("show")(show_command)
for _registered in (
    *app.registered_commands,
    *baseline_app.registered_commands,
    *gate_app.registered_commands,
):
    # a paragraph on one line: Typer keeps the line ends of a docstring, and a terminal adds its own
    _paragraphs = inspect.getdoc(_registered.callback) or ""
    _registered.help = "\n\n".join(" ".join(text.split()) for text in _paragraphs.split("\n\n"))
    _registered.cls = OnceCommand


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"sde-bench {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@functools.cache
def program() -> Any:
    """Build the command of the whole program, once a process: Typer reads the signatures of all commands."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the program: errors become one line on stderr and the documented exit code."""
    warnings.showwarning = _show_warning
    keep_to_quota()
    signals: list[int] = []
    try:
        with interruptible() as signals, own_stdout():
            code = program()(prog_name="sde-bench", standalone_mode=False)
    except InterruptedWorkError as error:
        _end(str(error), error.exit_code)  # it names no parameter, and must not be interrupted
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except SystemExit as error:
        if _completes():  # Typer ends so when it has told a shell what it asked for
            raise
        if not isinstance(error.__context__, BrokenPipeError):
            _fail(f"somebody's code wants to end the program ({one_line(error)})", ExitCode.INPUT_ERROR)
        code = ExitCode.OK  # Typer's way to say that the reader of our output, `head` say, has left
    except BrokenPipeError:
        code = ExitCode.OK  # the reader of our output, `head` say, has left before the end
    except Exception as error:
        if signals:  # what a library has made of it
            code = ExitCode.INTERRUPTED
        elif isinstance(error, OutputError):
            _end(f"{error}; {how_to_see_it(*sys.argv[1:2] or [''])}", error.exit_code)
        elif isinstance(error, BenchError):
            _fail(str(error), error.exit_code)
        elif isinstance(error, UsageError):
            command = error.ctx.command_path if error.ctx else "sde-bench"
            what, colon, why = error.format_message().rstrip(".").partition(": ")
            message = f"{what}{colon}{in_our_words(why)}"
            _fail(f"{message}; see `{command} --help`", ExitCode.INPUT_ERROR)
        else:
            traceback.print_exc()
            _end("this is an error in sde-bench; please report it with the lines above", ExitCode.CRASHED)
    if code == ExitCode.INTERRUPTED:
        exec("")  # `python -m` ends by SIGINT after one that came through executed text; forget that
        _end(f"interrupted; {how_to_go_on(*sys.argv[1:2] or [''])}", ExitCode.INTERRUPTED)
    raise SystemExit(int(code or ExitCode.OK))


_show_foreign = warnings.showwarning


def _completes() -> bool:
    """Whether a shell asks for completions, or they are being installed."""
    asked = {"--install-completion", "--show-completion"}.intersection(sys.argv[1:2])
    return "_SDE_BENCH_COMPLETE" in os.environ or bool(asked)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print our warnings as one line, and others as Python does."""
    if issubclass(category, BenchWarning):
        print(f"sde-bench: {_in_words_of_the_command_line(str(message))}", file=sys.stderr)
    else:
        _show_foreign(message, category, *where, **more)


def _fail(message: str, code: ExitCode) -> None:
    _end(_in_words_of_the_command_line(message), code)


def _end(message: str, code: ExitCode) -> None:
    print(f"sde-bench: {printable(message)}", file=sys.stderr)
    raise SystemExit(int(code))


def _in_words_of_the_command_line(message: str) -> str:
    return with_options(message, program(), sys.argv[1:])
