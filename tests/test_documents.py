"""Documents cannot rot: their Python runs, their commands parse, their links lead somewhere."""

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import DOCUMENTS, ROOT, command_lines, commands, python_blocks, words

import robustbench_sde
from robustbench_sde.cli import texts
from robustbench_sde.cli.app import app
from robustbench_sde.perturbations.attacks.registry import attack_kind
from robustbench_sde.perturbations.corruptions import select

PROGRAM: Any = typer.main.get_command(app)
#: options whose values can be wrong although they parse
VALUES = {
    "attack": lambda text: [attack_kind(name) for name in texts.parts(text)],
    "corruptions": select,
    "eps": lambda text: text == "none" or texts.parse_eps(text),
    "severity": texts.parse_severities,
}
#: commands with a plug-in's names, which only exist where it is installed
PLUGIN = ("fgsm", "stripes", "noisy-linear")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the repository to a reader, and may be written to."""
    shutil.copytree(ROOT / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if python_blocks(d)], ids=lambda document: document.name
)
def test_python_of_documents_runs(document: Path, here: Path):
    """The blocks of a document run from top to bottom, as one script."""
    names: dict[str, Any] = {"__name__": "document"}
    for block in python_blocks(document):
        lines = "\n" * (block.line - 1)  # so that a traceback has the document's lines
        exec(compile(lines + block.text, str(document), "exec"), names)


@pytest.mark.parametrize(("place", "command"), command_lines())
def test_command_lines_of_documents_parse(place: str, command: str):
    """Every command line in a document has a command, options and values that exist."""
    check(words(command))


def test_examples_of_help_parse():
    """So has every example in a --help."""
    found = [
        command for text in helps(PROGRAM) for command in commands(text.replace("[bold]Example:[/bold] ", ""))
    ]
    assert len(found) >= 10
    for command in found:
        check(words(command.partition("   (")[0]))


def check(arguments: list[str]) -> None:
    """Parse as the program does, run nothing, and look up names."""
    command, context = PROGRAM, PROGRAM.make_context("sde-bench", list(arguments))
    rest = list(arguments)
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)
        if not rest or "--help" in rest or "..." in rest:  # named, not called
            return
        context = command.make_context(name, rest, parent=context)
    for option, look_up in VALUES.items():
        value = context.params.get(option)
        names = texts.parts(value or ())
        if names and not set(PLUGIN) & set(names):
            look_up(",".join(names))


def helps(command: Any) -> Iterator[str]:
    """The texts of all --help pages."""
    yield f"{command.help or ''}\n{command.epilog or ''}".replace("Example: ", "")
    for part in getattr(command, "commands", {}).values():
        yield from helps(part)


def test_public_functions_say_what_they_take_and_return():
    """Every argument of every public function is in its docstring, in order, and so is what it returns."""
    functions = [
        f for f in (getattr(robustbench_sde, n) for n in robustbench_sde.__all__) if inspect.isfunction(f)
    ]
    assert len(functions) >= 7
    for function in functions:
        text = inspect.getdoc(function) or ""
        arguments = text.partition("Args:\n")[2].partition("\n\n")[0]
        named = re.findall(r"^    \**(\w+):", arguments, re.MULTILINE)
        assert named == list(inspect.signature(function).parameters), function.__name__
        assert "\nReturns:\n" in text, function.__name__


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_site_builds(tmp_path: Path):
    """The site is built in strict mode: broken links and pages outside the navigation are errors."""
    build = ("-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site")
    finished = subprocess.run(
        [sys.executable, *build], cwd=ROOT, capture_output=True, text=True, timeout=300, env=os.environ.copy()
    )
    assert finished.returncode == 0, finished.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 10
    for page in pages:  # nothing is fetched when it is opened
        assert 'src="http' not in page.read_text()
        assert 'rel="stylesheet" href="http' not in page.read_text()


def test_every_finding_has_its_row():
    """docs/field-notes.md says of each script in findings/ what it means, and names no other."""
    rows = re.findall(r"\(`([a-z0-9-]+)`\) \|", (ROOT / "docs" / "field-notes.md").read_text())
    assert sorted(rows) == sorted(path.stem for path in (ROOT / "findings").glob("*.sh"))
