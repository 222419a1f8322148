"""Triton kernels without a GPU: their tests, under Triton's interpreter, in a process of their own."""

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


#: where Triton is a dependency of the tests, so that they fail rather than skip without it
HAS_TRITON = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.mark.skipif(
    not HAS_TRITON and importlib.util.find_spec("triton") is None, reason="needs Triton, made for Linux"
)
def test_the_kernels_keep_their_promises_in_the_interpreter():
    """Every test of a kernel passes on the CPU, none is skipped; the interpreter is chosen at the import."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    names = ("sde/test_kernels", "models/test_norm_kernels", "models/test_kernel_passes")
    files = [ROOT / f"tests/{name}.py" for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    summary = done.stdout.splitlines()[-1]
    assert int(re.search(r"(\d+) passed", summary)[1]) > 100
    assert "skipped" not in summary
