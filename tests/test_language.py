"""Docstrings and `#:` comments can be read alone (CONTRIBUTING.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: places whose texts are held to the rules: all of the package and of its tests
HELD = ("robustbench_sde/**/*.py", "tests/**/*.py")
#: Words that continue a sentence which stands elsewhere.
CONTINUES = re.compile(
    r"(Of|The same|Same|Those|Its|Theirs|Whose|As|That|Which|By|In|To|From|For|With|Likewise|Ditto)\b", re.I
)
#: Words with which a question begins, where a function should say what it does.
ASKS = re.compile(r"(What|How|Where|When|Who)\b", re.I)


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
