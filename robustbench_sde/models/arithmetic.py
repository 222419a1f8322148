"""The arithmetic of convolutions and linear maps: what the names of a precision mean."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.autograd import Variable

from robustbench_sde.choices import Precision


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Compute gradients in the block as they are without a caller's no_grad, inference mode or autocast."""
    with torch.inference_mode(False), torch.enable_grad(), _autocast("fp32", device.type):
        yield


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision within the block. On CUDA torch's flags are set, and set back.

    Torch itself takes TF32 for convolutions unless told otherwise: `fp32` tells it. An autocast around the
    block, which no table would show, is without effect in it.
    """
    before = _allowed() if device.type == "cuda" else None
    try:
        if before is not None:
            _allow((precision == "tf32",) * 2)
        with _autocast(precision, device.type):
            yield
    finally:
        if before is not None:
            _allow(before)


def _autocast(precision: Precision, kind: str) -> AbstractContextManager[object]:
    if precision == "bf16":
        # each use of a weight casts it anew: with one copy of it for all solver steps, torch would add up
        # their gradients with 8 bits
        return torch.autocast(kind, torch.bfloat16, cache_enabled=False)
    around = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if around else nullcontext()


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
