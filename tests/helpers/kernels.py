"""How tests of Triton kernels run: interpreted on the CPU in a process of their own, or for real on a GPU."""

import os

import pytest
import torch

pytest.importorskip("triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
#: marks of every such test: without the interpreter they need a GPU
MARKS = (
    []
    if INTERPRETED
    else [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
)
