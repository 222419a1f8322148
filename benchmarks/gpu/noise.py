"""How fast noise is made on the GPU."""

from typing import Any, get_args

import torch

from benchmarks.gpu.networks import DRAWS, network
from benchmarks.gpu.timing import replayed, seconds
from robustbench_sde.choices import NoiseBackend
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream

#: backends by the names of the tables; `kernel` is what `device` means on CUDA
BACKENDS = {"host": "host", "torch": "torch", "kernel": "device"}


def there() -> dict[str, str]:
    """The backends that this version has: before the kernel, `device` was torch's operations."""
    if "torch" in get_args(NoiseBackend):
        return BACKENDS
    return {"host": "host", "torch": "device"}


def normals(rows: int = 1024) -> list[dict[str, Any]]:
    """Rows of the table: the noise of a pass, made and thrown away."""
    table = []
    for preset in ("digits", "cifar"):
        spec = network(preset, "meta").spec
        shape = (spec.features, 8, 8)
        for name, backend in there().items():
            paths = BrownianPaths(
                Draws(0, Stream.ATTACK, range(DRAWS)),
                range(rows // DRAWS),
                shape,
                steps=spec.steps,
                device="cuda",
                backend=backend,  # type: ignore[arg-type]
            )

            def make(paths: BrownianPaths = paths) -> None:
                for _ in paths:
                    pass

            taken = seconds(make)
            count = rows * spec.steps * torch.Size(shape).numel()
            table.append(
                {
                    "preset": preset,
                    "rows": rows,
                    "backend": name,
                    "ms of a pass": 1e3 * taken,
                    "ms on the GPU alone": 1e3 * (replayed(make) if name == "kernel" else taken),
                    "normals a second": count / taken,
                }
            )
    return table
