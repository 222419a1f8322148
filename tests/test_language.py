"""Docstrings, `#:` comments and texts of --help can be read alone; paths in texts exist (CONTRIBUTING.md)."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import DOCUMENTS, ROOT

from robustbench_sde.cli.app import app

PACKAGE = ROOT / "robustbench_sde"
#: places whose texts are held to the rules: all of the package and of its tests
HELD = ("robustbench_sde/**/*.py", "tests/**/*.py")
#: Words that continue a sentence which stands elsewhere.
CONTINUES = re.compile(
    r"(Of|The same|Same|Those|Its|Theirs|Whose|As|That|Which|By|In|To|From|For|With|Likewise|Ditto)\b", re.I
)
#: Words with which a question begins, where a function should say what it does.
ASKS = re.compile(r"(What|How|Where|When|Who)\b", re.I)
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
#: references to documents that a reader of the project does not have
ELSEWHERE = re.compile(r"\b(DESIGN|FACTS|HOUSE|STYLE)\b")
#: a file of the project that a text names: a folder of the project, then a path with a known ending
FILE = re.compile(
    r"(?<![\w./:$~<>*-])((?:[\w.-]+/)+[\w.-]+\.(?:py|md|yaml|yml|toml|css|sh|sbatch|json))(?![\w/])"
)
#: folders of the repository that texts of the package and of the tests refer to
FOLDERS = ("docs/", "tests/", "benchmarks/", "examples/", "robustbench_sde/")
#: folders whose files are made by runs, trainings and `make`, and those of other projects that pages name
MADE = (
    "build/",
    "code/",
    "reports/",
    "checkpoints/",
    "robustness/",
    ".github/workflows/robustness",
    "audits/",
    "stability/",
    "certificates/",
)


def unclear(text: str) -> Iterator[str]:
    """Yield ``line: text`` of each docstring or `#:` comment of a module that cannot be understood alone."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, *functions)):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if CONTINUES.match(first) or (isinstance(node, functions) and ASKS.match(first)):
                yield f"{getattr(node, 'lineno', 1)}: {first}"
    lines = [line.strip() for line in text.splitlines()]
    for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), 1):
        comment = line.removeprefix("#:").strip()
        if line.startswith("#:") and not before.startswith("#:") and CONTINUES.match(comment):
            yield f"{number}: {comment}"


def help_texts(command: Any, path: str = "sde-bench") -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every paragraph of every --help: of commands, arguments and options."""
    for paragraph in (command.help or "").split("\n\n"):
        yield path, " ".join(paragraph.split())
    for parameter in command.params:
        yield f"{path} {parameter.opts[0]}", getattr(parameter, "help", None) or ""
    for name, part in getattr(command, "commands", {}).items():
        yield from help_texts(part, f"{path} {name}")


def unclear_help(text: str) -> str | None:
    """Return what is wrong with a text of --help; None if nothing is."""
    if text.startswith("[bold]Example:[/bold] sde-bench "):
        return None
    faults = {
        "begins in mid-sentence": CONTINUES.match(text),
        "has no capital letter": not text[:1].isupper(),
        "does not end": not text.endswith((".", "?")),
        "names a document that users do not have": ELSEWHERE.search(text),
    }
    return next((fault for fault, found in faults.items() if found), None)


def missing_files(text: str) -> list[str]:
    """Return the files of the project that a text names and that do not exist."""
    named = [found for found in FILE.findall(text) if not found.startswith(MADE)]
    return [
        name for name in named if not any((top / name).exists() for top in (ROOT, PACKAGE, ROOT / "docs"))
    ]


@pytest.mark.parametrize("pattern", HELD)
def test_docstrings_and_comments_can_be_read_alone(pattern):
    """No text begins in mid-sentence, and the docstring of a function begins with a verb, not a question."""
    files = sorted(ROOT.glob(pattern))
    assert files
    assert [
        f"{file.relative_to(ROOT)}:{found}" for file in files for found in unclear(file.read_text())
    ] == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('def f():\n    """What is left."""', ["1: What is left."]),
        ('class A:\n    """What is left."""', []),
        ('def f():\n    """Return the rest."""', []),
        ('"""The same for a page."""', ["1: The same for a page."]),
        ("#: of a column\nx = 1", ["1: of a column"]),
        ("#: name of a column, taken\n#: from the table\nx = 1", []),
        ("#: offset of a column\nx = 1  # of a table", []),
    ],
)
def test_the_rules_are_those(text, lines):
    """The test above finds texts that begin in mid-sentence, and no others."""
    assert list(unclear(text)) == lines


def test_help_can_be_read_alone():
    """Every text of every --help is a sentence or a phrase of its own, with a capital letter and an end."""
    texts = list(help_texts(typer.main.get_command(app)))
    assert len(texts) > 250
    assert [f"{place}: {fault}" for place, text in texts if (fault := unclear_help(text))] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Seed of all random numbers.", None),
        ("Can the number be trusted?", None),
        ("[bold]Example:[/bold] sde-bench list attacks", None),
        ("Of everything random.", "begins in mid-sentence"),
        ("The same for the test split.", "begins in mid-sentence"),
        ("seed of all random numbers.", "has no capital letter"),
        ("", "has no capital letter"),
        ("Seed of all random numbers", "does not end"),
        ("Draws as in DESIGN, invariant 1.", "names a document that users do not have"),
    ],
)
def test_the_rules_of_help_are_those(text, fault):
    """The test above finds phrases that continue another text, lower case, no end, and unknown documents."""
    assert unclear_help(text) == fault


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "SECURITY.md"], ids=lambda document: document.name)
def test_files_that_documents_name_exist(document):
    """A path of a file of this project in a document leads to that file, and none to private documents."""
    text = document.read_text()
    assert missing_files(text) == []
    assert ELSEWHERE.search(text) is None


@pytest.mark.parametrize("pattern", HELD)
def test_files_that_the_code_refers_to_exist(pattern):
    """A path in docs/, tests/, benchmarks/ or examples/ in the code leads to a file."""
    found = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in ROOT.glob(pattern)
        for name in missing_files(file.read_text())
        if name.startswith(FOLDERS) and file != Path(__file__)
    }
    assert found == set()


def test_missing_files_are_found():
    """Existing paths and paths of users are not missing; others are."""
    text = (
        "see `sde/philox.py`, tests/test_language.py, docs/none.md, `sde/none.py`, mine.yaml, reports/a.json"
    )
    assert missing_files(text) == ["docs/none.md", "sde/none.py"]


def test_the_drawing_of_the_architecture_is_the_contract_of_imports():
    """The boxes of docs/architecture.md are the layers that `lint-imports` checks, and the whole package."""
    drawing = ARCHITECTURE.split("```")[1]
    boxes = [re.split(r"\s{2,}", line)[0] for line in drawing.splitlines() if line and line[0] != " "]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    drawn = [sorted(re.split(r" \| |, ", box)) for box in boxes]
    assert drawn == [sorted(layer.split(" | ")) for layer in contracts[0]["layers"]]
    there = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {name for box in drawn for name in box} == there - {"__init__", "__main__"}
    rooms = re.findall(r"(\w+)/", drawing)
    assert rooms
    assert [room for room in rooms if not any(PACKAGE.rglob(f"{room}/__init__.py"))] == []


def test_the_architecture_names_what_is_there():
    """Every path in the table "to find, look in" exists, and the file defines the name before it."""
    rows = [line for line in ARCHITECTURE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        place = row.split("|")[2]
        paths = re.findall(r"`([\w./]+/[\w./]*|\w+\.py)`", place)
        assert paths, row
        assert [path for path in paths if not any((top / path).exists() for top in (PACKAGE, ROOT))] == [], (
            row
        )
        for name, path in re.findall(r"`([A-Za-z_.]+)` in `([\w./]+\.py)`", place):
            assert re.search(
                rf"^\s*(def|class) {name.split('.')[-1]}\b|^{name}\b", (PACKAGE / path).read_text(), re.M
            ), row
