"""The program in processes of its own that need not import torch again: forked from a server that has."""

import multiprocessing
import os
import sys
from pathlib import Path

#: What the server imports once; its children begin with it.
PRELOADED = (
    "robustbench_sde.cli.app",
    "robustbench_sde.data",
    "robustbench_sde.reporting.corruptions",
    "robustbench_sde.suite.corruption",
    "robustbench_sde.suite.plan",
    "robustbench_sde.suite.suite",
)


def sde_bench(*arguments: object, cwd: Path) -> multiprocessing.process.BaseProcess:
    """Start `sde-bench` with these arguments; its output goes to files in `cwd`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=_main, args=([str(argument) for argument in arguments], cwd))
    process.start()
    return process


def _main(arguments: list[str], cwd: Path) -> None:
    from robustbench_sde.cli.app import main

    os.chdir(cwd)
    for stream, name in ((sys.stdout, "stdout.txt"), (sys.stderr, "stderr.txt")):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream.fileno())
    sys.argv = ["sde-bench", *arguments]
    main()
