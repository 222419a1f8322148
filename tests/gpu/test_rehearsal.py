"""Tests and benchmarks of GPUs run on a pretended GPU, so that they do not lose touch with the code."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packaging.version import Version

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
    pytest.mark.skipif(
        Version(torch.__version__) < Version("2.14"), reason="knows the operations of torch 2.14 and later"
    ),
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
]


def rehearse(*arguments):
    """Run Python with what is needed for a rehearsal; returns the exit code and all that was printed."""
    path = os.pathsep.join(map(str, (ROOT / "tests/helpers", ROOT, *sys.path[1:])))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout


def test_every_test_of_a_gpu_runs_on_a_pretended_one():
    """Bodies of tests marked `gpu` run and hold on the CPU; three are skipped, which need real hardware."""
    corruptions = ROOT / "tests/perturbations/corruptions/test_properties.py"
    code, text = rehearse(
        "-m",
        "pytest",
        "-p",
        "rehearsal",
        "-p",
        "no:cacheprovider",
        "-m",
        "gpu",
        ROOT / "tests/gpu",
        corruptions,
    )
    assert code == 0, text[-5000:]
    assert int(re.search(r"(\d+) passed", text)[1]) > 140
    assert int(re.search(r"(\d+) skipped", text)[1]) == 3


def test_every_table_of_a_gpu_is_made_on_a_pretended_one():
    """All sections of `python -m benchmarks.gpu` but the tests give rows, and none fails."""
    sections = ["noise", "passes", "scoring", "attack cells", "decisions", "corruptions", "large passes"]
    sections.append("compiled drifts")
    code, text = rehearse("-m", "rehearsal", "--minutes", "25", "--only", *sections)
    assert code == 0, text[-5000:]
    for section in sections:
        (rows,) = re.findall(rf"^{section}\n((?:\|.*\n)+)", text, re.MULTILINE)
        assert rows.count("\n") > 2
    assert "failed" not in text
    assert "left out" not in text
    assert "states in NCHW" in text
