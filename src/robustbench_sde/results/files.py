"""Files that are either whole or absent."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import yaml

from robustbench_sde.errors import BenchError


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
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # what the user's umask says; safetensors writes for the owner alone
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_yaml(path: Path) -> dict[str, object]:
    """A YAML file that holds a mapping, by `safe_load`.

    Raises:
        BenchError: it is missing, too large (1 MB), not YAML, or not a mapping.
    """
    try:
        if path.stat().st_size > 1_000_000:
            raise BenchError(f"{path} has more than 1 MB; that is no configuration")
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BenchError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise BenchError(f"{path} must hold `key: value` lines")
    return loaded


def parse_scalar(text: str) -> object:
    """A number, truth value or text as YAML reads it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BenchError(f"{text!r} is not a value: {' '.join(str(error).split())}") from error
