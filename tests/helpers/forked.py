"""The program in processes of its own that need not import torch again: forked from a server that has."""

import ctypes
import functools
import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import resource
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: What the server imports once; its children begin with it. Commands import the last ones where needed:
#: if they were not here, each child would do so anew.
PRELOADED = (
    "robustbench_sde.api.checkpoints",
    "robustbench_sde.api.attack",
    "robustbench_sde.api.audit",
    "robustbench_sde.api.certify",
    "robustbench_sde.api.compare",
    "robustbench_sde.api.run",
    "robustbench_sde.api.score",
    "robustbench_sde.api.stability",
    "robustbench_sde.cli.app",
    "robustbench_sde.reporting.corruptions",
    "robustbench_sde.reporting.html.page",
    "robustbench_sde.reporting.leaderboard",
    "sklearn.datasets",
    "sympy",
    "torchvision.io",
    "PIL.ImageDraw",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
)
_NEW_MOUNTS = 0x00020000
_READ_ONLY, _REMOUNT = 1, 32


@dataclass(frozen=True)
class Finished:
    """What a process has left behind."""

    code: int | None
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Limits:
    """What a process may use beyond what it begins with."""

    memory: int = 1 << 29
    cpu_seconds: int = 20

    def __call__(self) -> None:
        """Hold this process to them: beyond, allocations fail and the kernel ends it."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + self.memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_seconds, self.cpu_seconds))


def sde_bench(
    *arguments: object, cwd: Path, before: Callable[[], None] | None = None
) -> multiprocessing.process.BaseProcess:
    """Start `sde-bench` with these arguments; its output goes to files in `cwd`.

    `before` is called in the new process first, and must be importable.
    """
    process = _context().Process(target=_main, args=([str(argument) for argument in arguments], cwd, before))
    process.start()
    return process


def finished(*arguments: object, cwd: Path, before: Callable[[], None] | None = None) -> Finished:
    """Run `sde-bench` to its end."""
    process = sde_bench(*arguments, cwd=cwd, before=before)
    process.join()
    return Finished(process.exitcode, (cwd / "stdout.txt").read_text(), (cwd / "stderr.txt").read_text())


def script(path: Path, *arguments: object, cwd: Path) -> Finished:
    """Run a script to its end, as `python PATH ARGUMENTS`; figures go to no screen."""
    process = _context().Process(target=_script, args=(path, [str(argument) for argument in arguments], cwd))
    process.start()
    process.join()
    return Finished(process.exitcode, (cwd / "stdout.txt").read_text(), (cwd / "stderr.txt").read_text())


def once_begun() -> None:
    """Hold signals back until the program has its handlers; then there is a file `begun`."""
    from robustbench_sde.cli import app

    program, held = app.program(), {signal.SIGINT, signal.SIGTERM}

    def begun(**options: object) -> object:
        Path("begun").touch()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        return program(**options)

    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    app.program = lambda: begun  # type: ignore[assignment]


def small_disk(folder: Path, size: str) -> None:
    """Put an empty file system of `size` ("64k") over a folder, for this process alone."""
    _own_mounts()
    _mount("tmpfs", folder, "tmpfs", 0, f"size={size}")


def read_only(folder: Path) -> None:
    """Make a folder read-only for this process alone, root or not."""
    _own_mounts()
    _mount(str(folder), folder, "none", _BIND, None)
    _mount("none", folder, "none", _BIND | _REMOUNT | _READ_ONLY, None)


_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18


def _own_mounts() -> None:
    if _libc().unshare(_NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("none", Path("/"), "none", _REC | _PRIVATE, None)


def _mount(source: str, target: Path, kind: str, flags: int, data: str | None) -> None:
    texts = [None if text is None else text.encode() for text in (source, str(target), kind, data)]
    if _libc().mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _main(arguments: list[str], cwd: Path, before: Callable[[], None] | None) -> None:
    from robustbench_sde.cli.app import main

    _enter(cwd)
    if before is not None:
        before()
    sys.argv = ["sde-bench", *arguments]
    try:
        main()
    finally:  # the program has ended; what multiprocessing does behind it is none of its work
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _script(path: Path, arguments: list[str], cwd: Path) -> None:
    _enter(cwd)
    os.environ["MPLBACKEND"] = "agg"
    sys.argv, sys.path[:0] = [str(path), *arguments], [str(path.parent)]
    runpy.run_path(str(path), run_name="__main__")


def _enter(cwd: Path) -> None:
    """Make a folder the current one, with the output of this process in files there."""
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    for stream, name in ((sys.stdout, "stdout.txt"), (sys.stderr, "stderr.txt")):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream.fileno())
