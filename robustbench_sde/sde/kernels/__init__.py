"""Triton kernels of noise. Import these modules only where Triton is: `keyed.has_kernels`."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """A block in which Triton launches on the GPU of a tensor: it takes the current one."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
