"""The arithmetic of convolutions and linear maps: what the names of a precision mean."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.autograd import Variable

from robustbench_sde.choices import Precision


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision within the block. On CUDA torch's flags are set, and set back.

    Torch itself takes TF32 for convolutions unless told otherwise: `fp32` tells it.
    """
    before = _allowed() if device.type == "cuda" else None
    try:
        if before is not None:
            _allow((precision == "tf32",) * 2)
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
            yield
    finally:
        if before is not None:
            _allow(before)


def carry_over(precision: Precision, logits: Tensor) -> None:
    """Have the gradient of `logits` computed in the same arithmetic, after which flags are set back."""
    if not (logits.is_cuda and logits.requires_grad):
        return

    def enter(gradient: Tensor) -> None:
        before = _allowed()
        _allow((precision == "tf32",) * 2)
        Variable._execution_engine.queue_callback(lambda: _allow(before))  # at the end of the way back

    logits.register_hook(enter)


def _allowed() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def _allow(flags: tuple[bool, bool]) -> None:
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags
