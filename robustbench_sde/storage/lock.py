"""One process at a time in a run folder, or at a checkpoint."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from robustbench_sde.errors import BenchError


def locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a folder, which is made; the kernel releases it when the process dies, however.

    Raises:
        BenchError: another process holds it, or the folder cannot be written.
    """
    return _held(
        folder / ".lock",
        f"another process is running in {folder}; wait until it has finished, or give another name",
    )


def locked_file(path: Path) -> contextlib.AbstractContextManager[None]:
    """Lock one file, whether it exists or not."""
    return _held(
        path.with_name(f".{path.name}.lock"),
        f"another process is writing {path}; wait until it has finished, or give another `out`",
    )


@contextlib.contextmanager
def _held(path: Path, otherwise: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror or error}") from error
    if descriptor is None:
        raise BenchError(otherwise)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int | None:
    """A locked descriptor of the file that has this name now; None where another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # whoever held it may have removed the file after we opened it: then we hold nothing
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
