"""Triton kernels of noise. Import these modules only where Triton is: `keyed.has_kernels`."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Make the GPU of a tensor the current one, which is where Triton launches kernels, within a block."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
