"""Run a program in another source tree of this package, in a process of its own: before against after."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_in(tree: Path, program: str, asked: Mapping[str, Any]) -> Any:
    """Run a Python program that imports the package of `tree`; return what its last line says, as JSON.

    Args:
        tree: folder that holds `robustbench_sde/`.
        program: source text; it finds `asked`, as JSON, in `sys.argv[1]`.
        asked: arguments of the program.

    Raises:
        CalledProcessError: the program fails.
    """
    answer = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asked)],
        env=os.environ | {"PYTHONPATH": str(tree.resolve())},
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])
