"""Where and how networks are computed."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from robustbench_sde.errors import unknown_name
from robustbench_sde.models.device import resolve_device
from robustbench_sde.sde.draws import NoiseBackend

#: fp32: single precision throughout. bf16: convolutions and linear maps in bfloat16 (autocast)
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Compute:
    """Choices of speed and memory: none changes a number beyond float rounding, nor the key of a cell.

    Precision is not among them: it changes numbers, and belongs to what is measured (`suite.cells.Source`).
    """

    #: cpu, cuda, cuda:1, mps; `auto` is resolved by `of`
    device: str = "cpu"
    #: what generates the noise
    noise_backend: NoiseBackend = "host"

    @classmethod
    def of(cls, device: str, *, noise_backend: str = "host") -> "Compute":
        """From the words of a command line.

        Raises:
            BenchError: there is no such choice, or not on this machine.
        """
        if noise_backend not in get_args(NoiseBackend):
            raise unknown_name("noise backend", noise_backend, get_args(NoiseBackend))
        return cls(resolve_device(device), noise_backend)  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)


def check_precision(name: str) -> Precision:
    """`name` as a precision.

    Raises:
        BenchError: it is none.
    """
    if name not in get_args(Precision):
        raise unknown_name("precision", name, get_args(Precision))
    return name  # type: ignore[return-value]
