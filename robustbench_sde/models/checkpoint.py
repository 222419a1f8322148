"""Checkpoints: one safetensors file with weights and, in its header, all that is needed to use them.

Nothing is executed or unpickled on loading (docs/protocol.md).
"""

from pathlib import Path

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute, check_precision
from robustbench_sde.models.header import KEY, CheckpointHeader, parse_header
from robustbench_sde.models.located import locate_existing
from robustbench_sde.storage.tensors import read_tensors, write_tensors

#: half precision becomes float32 when loaded, which is exact
_WEIGHTS = (torch.float32, torch.float16, torch.bfloat16)


def save_checkpoint(path: Path, model: Classifier, header: CheckpointHeader) -> None:
    """Write weights and header atomically.

    Raises:
        BenchError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_tensors(path, tensors, {KEY: header.model_dump_json()})


def load_checkpoint(
    path: Path | str,
    *,
    sigma: float | None = None,
    noise: bool = True,
    solver: str | None = None,
    steps: int | None = None,
    precision: str = "fp32",
    device: torch.device | str | Compute = "cpu",
) -> Classifier:
    """Load a classifier for evaluation, with frozen parameters and in eval mode.

    Args:
        path: checkpoint that this package wrote: its file, or its name in checkpoints/ or among the shipped
            checkpoints.
        sigma: noise scale at test time, at least 0; None keeps the trained one.
        noise: False switches the noise off at test time.
        solver: solver at test time (`SOLVERS`); None keeps the solver of the training.
        steps: number of solver steps at test time; None keeps that of the training.
        precision: number format of convolutions and linear maps: `fp32`, `tf32` or `bf16`.
        device: device for the model, or a `Compute` with more settings.

    Returns:
        A module whose `logits` takes images (B, C, H, W) float in [0, 1], their ids, and draws.

    Raises:
        BenchError: the file is missing, truncated, inconsistent, not a checkpoint of this package, or holds
            NaN or infinity; the solver does not support the noise; or there is no such precision.
    """
    path = locate_existing(Path(path))
    header, tensors = read_checkpoint(path)
    check_tensors(path, tensors, Classifier.weight_shapes(header.model))
    model = Classifier.from_weights(header.model, tensors)
    model.name = Path(path).stem
    compute = device if isinstance(device, Compute) else Compute(str(device))
    model = model.to(compute.device, torch.float32).requires_grad_(False).eval()
    model = model.with_precision(check_precision(precision, compute.device)).with_compute(compute)
    return model.with_noise(sigma=sigma, enabled=noise).with_solver(solver=solver, steps=steps)


def read_checkpoint(path: Path) -> tuple[CheckpointHeader, dict[str, Tensor]]:
    """Header and weights as they stand in the file. Raises as `load_checkpoint`."""
    tensors, metadata = read_tensors(path)
    return parse_header(path, metadata), tensors


def check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, torch.Size]) -> None:
    """Raises BenchError unless names and shapes are those expected and all numbers are finite."""
    for name in expected.keys() | found.keys():
        if name not in found:
            raise BenchError(f"{path}: tensor {name!r} of the model is missing")
        if name not in expected:
            raise BenchError(f"{path}: tensor {name!r} does not belong to the model")
        if found[name].shape != expected[name]:
            raise BenchError(
                f"{path}: tensor {name!r} has shape {tuple(found[name].shape)}, "
                f"the model needs {tuple(expected[name])}"
            )
        if found[name].dtype not in _WEIGHTS:
            raise BenchError(
                f"{path}: tensor {name!r} is {str(found[name].dtype).removeprefix('torch.')}, "
                "weights are float32, float16 or bfloat16"
            )
        if not found[name].isfinite().all():
            raise BenchError(f"{path}: tensor {name!r} holds NaN or infinity; train the model again")
