"""A YAML file that knows the line of everything in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from robustbench_sde.errors import BenchError
from robustbench_sde.storage.files import check_yaml, not_yaml, read_limited

#: Keys and indices that lead to a value.
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """What a file holds, and where."""

    path: Path
    text: str
    content: dict[str, Any]
    #: line, from 1, of every key and every list item
    lines: dict[Place, int]

    @classmethod
    def read(cls, path: Path) -> "Document":
        """A file that holds a mapping.

        Raises:
            BenchError: it is missing, too large, not YAML, refused by `check_yaml`, no mapping, or has a
                key twice or one that is no word.
        """
        text = read_limited(path)
        check_yaml(path, text)
        try:
            lines = dict(_lines(path, yaml.compose(text, Loader=yaml.SafeLoader), ()))
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise not_yaml(path, error) from error
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise BenchError(f"{path} must hold `key: value` lines")
        return cls(path, text, content, lines)

    def error(self, place: Sequence[str | int], message: str) -> BenchError:
        """An error at a place, or at the nearest one around it that has a line."""
        known: Place = ()
        for part in place:  # steps that are no part of the file (a validator's own) are passed over
            known = (*known, part) if (*known, part) in self.lines else known
        return _error(self.path, self.lines.get(known), message)

    @contextmanager
    def blame(self, *place: str | int) -> Iterator[None]:
        """Errors raised inside are said to be at `place`."""
        try:
            yield
        except BenchError as error:
            raise self.error(place, str(error)) from error


def _error(path: Path, line: int | None, message: str) -> BenchError:
    return BenchError(f"{path}, line {line}: {message}" if line else f"{path}: {message}")


def _lines(path: Path, node: Any, place: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _error(path, line, "a key must be a word, no list and no mapping")
            if key.value in seen:
                raise _error(path, line, f"{key.value!r} is there twice")
            seen.add(key.value)
            yield (*place, key.value), line
            yield from _lines(path, value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, index), value.start_mark.line + 1
            yield from _lines(path, value, (*place, index))
