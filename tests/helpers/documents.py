"""What documents promise: their Python blocks and their command lines."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(sde-bench [^`]+)`")
#: ends a command in a line of shell
_SHELL = re.compile(r"\s(?:\||\|\||&&|>|>>|2>|;)\s.*|\s2>&1.*")
#: options that sentences name without a value
_UNFINISHED = ("--noise", "--out")
#: the first line of a Python block that is not run says so to its readers, and why
_NOT_RUN = "# not run: "


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: Path
    #: line number of its first line of text
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    """All fenced blocks, in order."""
    text = document.read_text()
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        yield Block(document, line, found.group(2), textwrap.dedent(found.group(3)))


def python_blocks(document: Path) -> list[Block]:
    """Blocks of Python that are to run: all but those that say that they are not."""
    return [b for b in blocks(document) if b.language == "python" and not b.text.startswith(_NOT_RUN)]


def commands(text: str) -> Iterator[str]:
    """The command lines of the program in lines of shell: pipes, comments and line ends are taken away."""
    for line in text.replace("\\\n", " ").splitlines():
        command = _SHELL.sub("", line.strip().removeprefix("- ").removeprefix("run: ").removeprefix("$ "))
        if command.startswith("sde-bench "):
            yield command


def command_lines() -> list[tuple[str, str]]:
    """(place, command) of all documents: in fenced blocks of any kind and in code within a sentence."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document):
            found += [(str(block), command) for command in commands(block.text)]
        for mention in _INLINE.findall(_BLOCK.sub("", document.read_text())):
            found += [(document.name, command) for command in commands(" ".join(mention.split()))]
    return list(dict.fromkeys(found))


def words(command: str) -> list[str]:
    """The words of a command, without the program's name and comments.

    ``COMMAND`` stands for any command; an option at the end of a mention is completed.
    """
    found = ["attack" if word == "COMMAND" else word for word in shlex.split(command, comments=True)[1:]]
    return [*found, "1"] if found[-1] in _UNFINISHED else found
