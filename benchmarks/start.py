"""How long after Enter: the help of a command, and the first progress bar of those that have one.

    python -m benchmarks.start [--repeats 5]

Wall time, medians and the slowest. Each command runs as on a terminal, in a folder that has nothing but the
shipped checkpoints, and is stopped at its first bar. POSIX only.
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

#: What is measured, and the text that ends it: None is the end of the program.
COMMANDS: dict[str, str | None] = {
    "--help": None,
    "attack --help": None,
    "attack": "━",
    "run smoke": "━",
    "corrupt": "━",
    "train --out new.safetensors": "━",
}
#: Seconds after which a command is given up.
_PATIENCE = 60.0


def seconds_until(arguments: Sequence[str], text: str | None) -> float:
    """Wall time from the start of a command until its terminal shows `text`, or until it ends.

    Raises:
        RuntimeError: it ends before that, or is given up.
    """
    main, terminal = pty.openpty()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").symlink_to(CHECKPOINTS)
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
                    if text is None:
                        break
                    raise RuntimeError(f"{arguments} ended without a bar: {shown.decode()}") from None
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
    options = parser.parse_args(arguments)
    print("| command | until | median s | slowest s |\n|---|---|---|---|", flush=True)
    for command, text in COMMANDS.items():
        seconds = [seconds_until(command.split(), text) for _ in range(options.repeats)]
        until = "first bar" if text else "its end"
        print(
            f"| sde-bench {command} | {until} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
