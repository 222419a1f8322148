"""Devices by name."""

import torch

from robustbench_sde.errors import BenchError, unknown_name

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> str:
    """`auto` becomes the accelerator that is there, or the CPU.

    Raises:
        BenchError: there is no such device, or not on this machine.
    """
    if name.partition(":")[0] not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present[name.partition(":")[0]]:
        raise BenchError(f"device {name!r} is not available here; use --device auto or cpu")
    return name
