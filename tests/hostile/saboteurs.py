"""What happens to a process from within, while it works; for `before` of `forked.sde_bench`."""

import os
import shutil
import sys
import time
from itertools import count
from pathlib import Path


def output_to(name: str) -> None:
    """Write stdout and stderr to files of another name."""
    for stream, kind in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        os.dup2(os.open(f"{kind}-{name}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream.fileno())


def delete_after(stored: int, pattern: str) -> None:
    """Delete what matches when a run has stored so many cells."""
    from robustbench_sde.storage.run_folder import RunFolder

    write, numbers = RunFolder.write_cell, count(1)

    def then_delete(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        if next(numbers) == stored:
            _delete(pattern)

    RunFolder.write_cell = then_delete  # type: ignore[method-assign,assignment]


def delete_after_epoch(pattern: str) -> None:
    """Delete what matches when a training has finished its first epoch."""
    from robustbench_sde.training import loop

    epoch, numbers = loop._epoch, count(1)

    def then_delete(*arguments: object) -> None:
        epoch(*arguments)  # type: ignore[arg-type]
        if next(numbers) == 1:
            _delete(pattern)

    loop._epoch = then_delete  # type: ignore[assignment]


def jumping_clock() -> None:
    """A wall clock that goes back by ten years, on by twenty, and back, with every look at it."""
    clock, offsets = time.time, count()
    time.time = lambda: clock() + (-1) ** next(offsets) * 10 * 365 * 86400.0


def _delete(pattern: str) -> None:
    found = list(Path().glob(pattern))
    assert found, pattern
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
