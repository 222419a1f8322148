"""One process at a time in a run folder, or at a checkpoint."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from robustbench_sde.errors import BenchError

#: what file systems say that cannot lock: NFS without its lock service, some of FUSE and of clusters
CANNOT_LOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


def locked(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a folder, which is made; the kernel releases it when the process dies, however.

    Raises:
        BenchError: another process holds it, the folder cannot be written or is a file, or its disk cannot
            lock files.
    """
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is a file; a run needs a folder, so give `out` another name")
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
        if error.errno in CANNOT_LOCK:
            raise BenchError(
                f"the disk of {path.parent} cannot lock files ({error.strerror}): two processes could mix "
                "their work there; give a folder on another disk"
            ) from error
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
        except (BlockingIOError, PermissionError):  # NFS says the latter of a lock that is held (fcntl(2))
            os.close(descriptor)
            return None
        except OSError:
            with contextlib.suppress(OSError):  # nobody holds it, for nobody can
                path.unlink()
            os.close(descriptor)
            raise
        os.close(descriptor)
