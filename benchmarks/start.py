"""How long after Enter: the help of a command, and the first progress bar of those that have one.

    python -m benchmarks.start [--repeats 5]

Wall time, median and slowest, and beside it the median CPU time, which a busy machine changes less. Each
command runs as on a terminal, in a folder that has nothing but the shipped checkpoints and a file with a
small network, and is stopped at its first bar. POSIX only.
"""

import argparse
import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

#: Shipped with the repository.
CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"

#: A network as a user has it, in `net.py`.
NETWORK = """
from torch import nn


def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
"""

#: What is measured, and the text that ends it: None is the end of the program.
COMMANDS: dict[str, str | None] = {
    "--help": None,
    "attack --help": None,
    "attack": "━",
    "attack --model net.py:make": "━",
    "run smoke": "━",
    "corrupt": "━",
    "train --out new.safetensors": "━",
}
#: Seconds after which a command is given up.
_PATIENCE = 60.0


def seconds_until(arguments: Sequence[str], text: str | None) -> float:
    """Wall time from the start of a command until its terminal shows `text`, or until it ends.

    Raises:
        RuntimeError: it ends before that or with an error, or is given up.
    """
    main, terminal = pty.openpty()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").symlink_to(CHECKPOINTS)
        (Path(folder) / "net.py").write_text(NETWORK)
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "robustbench_sde", *arguments],
            cwd=folder,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
            start_new_session=True,
        )
        os.close(terminal)
        shown = b""
        try:
            while text is None or text.encode() not in shown:
                if not select.select([main], [], [], _PATIENCE)[0]:
                    raise RuntimeError(f"{arguments} showed nothing in {_PATIENCE:.0f} s")
                try:
                    shown += os.read(main, 2**16)
                except OSError:  # what Linux says when nobody holds the other side any more
                    if text is None and process.wait() == 0:
                        break
                    raise RuntimeError(f"{arguments} ended: {shown.decode()}") from None
            return time.perf_counter() - started
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(main)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=COMMANDS, help="one command")
    options = parser.parse_args(arguments)
    print("| command | until | median s | slowest s | CPU s |\n|---|---|---|---|---|", flush=True)
    for command, text in COMMANDS.items():
        if options.only not in (None, command):
            continue
        wall, cpu = [], []
        for _ in range(options.repeats):
            before = _cpu_of_children()
            wall.append(seconds_until(command.split(), text))
            cpu.append(_cpu_of_children() - before)
        row = (command, "first bar" if text else "its end", statistics.median(wall), max(wall))
        print(
            "| sde-bench {} | {} | {:.2f} | {:.2f} | {:.2f} |".format(*row, statistics.median(cpu)),
            flush=True,
        )


def _cpu_of_children() -> float:
    """CPU seconds of all processes that have ended."""
    used = os.times()
    return used.children_user + used.children_system


if __name__ == "__main__":
    main()
