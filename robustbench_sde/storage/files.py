"""Files that are either whole or absent."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from robustbench_sde.errors import BenchError

_T = TypeVar("_T")

#: libyaml where PyYAML was built with it: ten times as fast
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
#: key of the digest in a JSON file
_DIGEST = "digest"
#: levels of a configuration file
_DEEPEST = 20
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its name only when the block has succeeded.

    A crash at any moment leaves the old file or the new one, never a part. Parent folders are made.

    Raises:
        BenchError: the place cannot be written (no permission, disk full).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = f".{path.name}."
        remove_leftovers(file for file in path.parent.iterdir() if file.name.startswith(begun))
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # what the user's umask says; safetensors writes for the owner alone
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # pyarrow has words of its own for what the system says
        reason = os.strerror(error.errno) if error.errno else str(error)
        if isinstance(error, NotADirectoryError | FileExistsError):
            reason = next(
                (f"{each} is a file, not a folder" for each in path.parents if each.is_file()), reason
            )
        raise BenchError(f"cannot write {path}: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove those of these files that a process killed inside `atomic_write` has left.

    One whose process lives stays: it is being written.

    Raises:
        OSError: one cannot be removed.
    """
    for path in paths:
        if path.suffix == ".tmp" and not _lives(path.stem.rpartition(".")[2]):
            path.unlink(missing_ok=True)


def _lives(process: str) -> bool:
    """Whether there is another process of that number on this machine."""
    if not process.isdecimal() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def read_limited(path: Path, megabytes: int = 1) -> str:
    """The text of a configuration file.

    Raises:
        BenchError: it is missing, too large, or not UTF-8.
    """
    most = megabytes * 1_000_000
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)  # devices tell no size, and some have no end
        if len(content) > most:
            raise BenchError(f"{path} has more than {megabytes} MB; it is not a configuration")
        return content.decode("utf-8")
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise not_yaml(path, error) from error


def check_yaml(path: Path, text: str) -> None:
    """Refuse what makes a small YAML file enormous or slow: anchors, aliases, deep nesting.

    Raises:
        BenchError: there is such a thing; says in which line. Or it is not YAML.
    """
    depth = 0
    try:
        for token in yaml.scan(text, Loader=_LOADER):
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            line = token.start_mark.line + 1
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
                raise BenchError(f"{path}, line {line}: anchors and aliases are not allowed")
            if depth > _DEEPEST:
                raise BenchError(f"{path}, line {line}: nested more than {_DEEPEST} deep")
    except yaml.YAMLError as error:
        if "maximum nesting depth" in str(error):  # libyaml reads ahead, up to its own limit
            where = getattr(error, "problem_mark", None)
            line = "" if where is None else f", line {where.line + 1}"
            raise BenchError(f"{path}{line}: nested more than {_DEEPEST} deep") from error
        raise not_yaml(path, error) from error


def not_yaml(path: Path, error: Exception) -> BenchError:
    """Say in one line what a YAML reader has found."""
    return BenchError(f"{path} is not YAML: {' '.join(str(error).split())}")


def read_yaml(path: Path, megabytes: int = 1) -> dict[str, object]:
    """A YAML file that holds a mapping, by `safe_load`.

    Raises:
        BenchError: it is missing, too large, not YAML, refused by `check_yaml`, or not a mapping.
    """
    return parse_yaml(path, read_limited(path, megabytes))


def parse_yaml(path: Path, text: str) -> dict[str, object]:
    """Parse the text of a YAML file that holds a mapping, by `safe_load`.

    Raises:
        BenchError: it is not YAML, refused by `check_yaml`, or not a mapping.
    """
    check_yaml(path, text)
    try:
        loaded = yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError) as error:
        raise not_yaml(path, error) from error
    if not isinstance(loaded, dict):
        raise BenchError(f"{path} must hold `key: value` lines")
    return loaded


def to_yaml(content: Mapping[str, object]) -> str:
    """YAML of plain values, keys in their order."""
    text: str = yaml.dump(content, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return text


def parse_json(kind: TypeAdapter[_T], text: str | bytes, what: str) -> _T:
    """JSON of that kind, `what` in words.

    Raises:
        BenchError: it is something else; says where.
    """
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BenchError(f"no {what}: {where or 'the text'}: {first['msg']}") from error


def check_format(path: Path, loaded: object, known: int) -> None:
    """Refuse a file that says to have a later format than this version knows.

    Args:
        path: the file.
        loaded: its content, or a part of it that has `format`.
        known: the latest format that this version reads.

    Raises:
        BenchError: it has a later one.
    """
    found = loaded.get("format") if isinstance(loaded, dict) else None
    if isinstance(found, int) and found > known:
        raise BenchError(
            f"{path} has format {found}, and this version of sde-bench reads format {known}; "
            "use the version that wrote it, or a later one"
        )


def check_replaceable(path: Path, mark: str, what: str, *, force: bool) -> None:
    """Check that writing a file would lose nothing but an earlier one of its kind.

    Args:
        path: the file to write.
        mark: text in the first 4,000 bytes of every file of this kind.
        what: the kind in words, with its article.
        force: whether anything may be replaced.

    Raises:
        BenchError: there is something else.
    """
    if force or not path.exists():
        return
    try:
        with path.open("rb") as file:
            start = file.read(4000)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror}") from error
    if start and mark.encode() not in start:
        raise BenchError(f"{path} exists and is not {what}; give `force` to replace it, or another name")


def write_sealed(path: Path, text: str) -> None:
    """Write a JSON object atomically, with a digest of all its values as the last of them.

    Raises:
        BenchError: the file cannot be written.
    """
    values = json.loads(text)
    with atomic_write(path) as temporary:
        temporary.write_text(
            json.dumps(values | {_DIGEST: _digest(values)}, indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )


def read_sealed(kind: TypeAdapter[_T], path: Path, what: str) -> _T:
    """Read what `write_sealed` has written; earlier versions wrote no digest.

    Args:
        kind: type of the object.
        path: the file.
        what: the object in words.

    Raises:
        BenchError: the file cannot be read, holds something else, or was changed after it was written.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BenchError(str(error)) from error
    values = None
    with contextlib.suppress(ValueError, RecursionError):  # the parser below says what is wrong
        values = json.loads(text)
    if isinstance(values, dict) and (digest := values.pop(_DIGEST, None)) is not None:
        if digest != _digest(values):
            raise BenchError("its values were changed after it was written")
        text = json.dumps(values).encode()
    return parse_json(kind, text, what)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def parse_scalar(text: str) -> object:
    """A number, truth value or text as YAML reads it.

    Raises:
        BenchError: it is something else.
    """
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BenchError(f"{text[:80]!r} is not a value: {' '.join(str(error).split())}") from error
    if not isinstance(value, str | int | float | None):
        raise BenchError(f"{text[:80]!r} is not a number, a truth value or a text")
    return value
