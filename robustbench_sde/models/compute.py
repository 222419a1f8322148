"""Device, noise generator and memory with which networks are computed."""

import re
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch

from robustbench_sde.choices import NoiseBackend, Precision
from robustbench_sde.errors import BenchError, tell_once, unknown_name
from robustbench_sde.sde.draws import chosen
from robustbench_sde.storage.provenance import versions


@dataclass(frozen=True)
class Compute:
    """Choices of speed and memory; none changes a number beyond float rounding, nor the key of a cell.

    The precision is not among them: it changes numbers, and therefore belongs to the measured model
    (`runs.sources.Source`).
    """

    #: cpu, cuda, cuda:1, mps; `auto` is resolved by `of`
    device: str = "cpu"
    #: generator of the noise (`choices.NoiseBackend`)
    noise_backend: NoiseBackend = "auto"
    #: bytes that a process may use on the device; None: those that are free when it begins
    memory_limit: int | None = None
    #: share of that memory, if several processes share the device
    memory_share: float = 1.0
    #: whether drifts are compiled, on their first pass
    compile: bool = False
    #: whether passes are recorded as CUDA graphs where that is possible
    graphs: bool = True
    #: whether states may lie with their channels innermost where that is faster (`layout.puts_channels_last`)
    channels_last: bool = True
    #: whether stored cells that other versions of libraries have made are made again
    strict_versions: bool = False

    @classmethod
    def of(
        cls,
        device: str,
        *,
        noise_backend: str = "auto",
        memory_limit: str | None = None,
        compile: bool = False,
        graphs: bool = True,
        strict_versions: bool = False,
    ) -> "Compute":
        """Make the choices from the texts of a command line.

        Raises:
            BenchError: a choice does not exist, or not on this machine.
        """
        if noise_backend not in get_args(NoiseBackend):
            raise unknown_name("noise backend", noise_backend, get_args(NoiseBackend))
        limit = None if memory_limit is None else parse_bytes(memory_limit)
        there = resolve_device(device)
        # `auto` stays: tasks of a cluster may compute on another device than this process would
        return cls(
            there,
            noise_backend,  # type: ignore[arg-type]
            limit,
            compile=compile,
            graphs=graphs,
            strict_versions=strict_versions,
        )

    def made_with(self, rows: int) -> dict[str, Any]:
        """Describe what this process computes with: versions, device, threads and rows in a batch."""
        name = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else ""
        return {
            "versions": versions(),
            "device": f"{self.device} {name}".strip(),
            "threads": torch.get_num_threads(),
            "batch_size": rows,
        }

    def describe(self) -> dict[str, Any]:
        """Return the choices for a manifest, with the noise backend that `auto` means on the device."""
        return asdict(self) | {"noise_backend": chosen(self.noise_backend, self.device)}


def parse_bytes(text: str) -> int:
    """Convert a text like ``2GB``, ``1.5 GiB`` or ``800MB`` to bytes.

    Raises:
        BenchError: the text is not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT])(i?)B\s*", text)
    if found is None:
        raise BenchError(f"`memory_limit` is {text!r}; write 2GB, 1.5GiB or 800MB")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** ("MGT".index(unit) + 2))


def check_precision(name: str, device: str = "") -> Precision:
    """Return `name` if it is a precision, and tell if this processor has no instructions for it.

    Args:
        name: a precision.
        device: device that will compute with it; empty if that is not known yet.

    Raises:
        BenchError: there is no such precision.
    """
    if name not in get_args(Precision):
        raise unknown_name("precision", name, get_args(Precision))
    if name == "bf16" and device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        tell_once("this processor has no AVX-512: bf16 takes about ten times as long on it as fp32")
    return name  # type: ignore[return-value]


DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> str:
    """Return the device; `auto` is the accelerator of this machine, or the CPU.

    Raises:
        BenchError: there is no such device on this machine.
    """
    if name.partition(":")[0] not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present[name.partition(":")[0]]:
        raise BenchError(f"device {name!r} is not available here; give auto or cpu as `device`")
    return name
