"""Messages: the library names parameters, the command line its options."""

import ast
import re

import pytest
import typer
from forked import finished

import robustbench_sde as rb
from robustbench_sde.cli.app import app
from robustbench_sde.cli.messages import with_options
from robustbench_sde.errors import BenchError

PROGRAM = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("give `eot_draws` or `x`", ["attack", "m"], "give --eot-draws or `x`"),
        ("`noise=False` cannot", ["attack"], "--no-noise cannot"),
        ("`noise` alone", ["corrupt"], "--noise alone"),
        ("`compile` and `passes`", ["attack"], "--compile and --budget"),
        ("`data` and `module`", ["score"], "--dataset and --model"),
        ("`severities`", ["corrupt"], "--severity"),
        ("`eot_draws`", ["compare"], "`eot_draws`"),
        ("`checkpoints` is no option", ["attack"], "`checkpoints` is no option"),
        ("`file`", ["baseline", "save", "run"], "`file`"),
        ("see `sde-bench list attacks`", ["attack"], "see `sde-bench list attacks`"),
        ("`out`", [], "`out`"),
        ("`out`", ["no-command"], "`out`"),
    ],
)
def test_a_parameter_becomes_the_option_of_the_running_command(message, arguments, expected):
    """A word in backquotes that is no option of this command stays as it is."""
    assert with_options(message, PROGRAM, arguments) == expected


def test_one_mistake_is_said_in_the_words_of_whoever_made_it(program, digits):
    """Python reads the parameter, the command line the option."""
    with pytest.raises(BenchError, match=r"^`out` is x.pt; it must end in .safetensors$"):
        rb.train(digits, "x.pt")
    code, _, stderr = program("train", "--out", "x.pt")
    assert (code, stderr) == (2, "sde-bench: --out is x.pt; it must end in .safetensors\n")


def test_no_message_of_the_library_names_an_option(request):
    """Outside of the command line no error has a word like --option in it."""
    package = request.config.rootpath / "robustbench_sde"
    found = []
    for path in package.rglob("*.py"):
        if path.parent.name == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                found += [
                    (path.name, text)
                    for text in texts
                    if isinstance(text, str) and re.search(r"(^|[^\w-])--([a-z]|$)", text)
                ]
    assert found == []


def test_flags_have_no_type_in_help(tmp_path):
    """Words like <bool> stand behind no flag, and behind other options their type stays."""
    shown = finished("attack", "--help", cwd=tmp_path)
    assert shown.code == 0
    assert "<bool>" not in shown.stdout
    assert "<int" in shown.stdout.lower() or "integer" in shown.stdout.lower()
