"""The door of the corruptions: checks, keys, family, types and ranges; a recipe can skip none of it."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.corruptions.colour import Recipe
from robustbench_sde.perturbations.corruptions.quantise import FORGIVEN
from robustbench_sde.perturbations.corruptions.registry import Corruption, find
from robustbench_sde.perturbations.corruptions.setting import Setting
from robustbench_sde.perturbations.corruptions.severities import choose_family
from robustbench_sde.progress import SILENT, Progress

#: Number of values of a batch that are corrupted at once on a CPU (2 MiB of float32).
_PIECE = 2**19


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    *,
    image_ids: Sequence[int] | Tensor | None = None,
    seed: int = 0,
    family: str | None = None,
    frost_dir: str | Path | None = None,
    progress: Progress = SILENT,
) -> Tensor:
    """Apply a common corruption to (B, C, H, W) images; `robustbench_sde.corrupt` has the same arguments.

    `progress` is told of every piece of the batch that is finished.

    Raises:
        BenchError: a name, a value, a shape or a type is wrong.
    """
    perturbation, parameter = find(name)
    _check_images(images)
    if isinstance(severity, bool) or severity not in range(6):
        raise BenchError(f"`severity` {severity!r} is not 1 to 5 (0 leaves images as they are)")
    height, width = images.shape[-2:]
    chosen = choose_family(family, min(height, width))
    ids = [int(image) for image in range(len(images))] if image_ids is None else [int(i) for i in image_ids]
    if len(ids) != len(images):
        raise BenchError(f"{len(ids)} image_ids for {len(images)} images; give one each")
    if len(ids) == 0 or (parameter is None and severity == 0):
        return images.clone()

    if isinstance(perturbation, Corruption):
        parameters = perturbation.parameters(chosen, severity)
    else:
        assert parameter is not None
        severity, parameters = 0, (parameter,)
    scale = min(height, width) / chosen.resolution
    eight_bit = isinstance(perturbation, Corruption) and perturbation.eight_bit
    slices = _pieces(images)
    corrupted = torch.empty(images.shape, dtype=images.dtype, device=images.device)
    progress.start(f"{perturbation.name} {severity}" if severity else name, len(ids))
    for piece in slices:
        setting = Setting(
            name=perturbation.name,
            severity=severity,
            seed=seed,
            image_ids=ids[piece],
            device=images.device,
            scale=scale,
            frost_step=1 / (chosen.frost_scale * scale),
            frost_dir=None if frost_dir is None else Path(frost_dir),
        )
        apply = _on_levels if eight_bit else _on_floats
        apply(perturbation.recipe, images[piece], corrupted[piece], setting, parameters)
        progress.advance(len(ids[piece]))
    return corrupted


def _pieces(images: Tensor) -> list[slice]:
    """Cut a batch into slices that are computed one after the other: what one needs fits into a cache."""
    if images.device.type != "cpu":
        return [slice(0, len(images))]
    count = min(len(images), math.ceil(images.numel() / _PIECE))
    size = math.ceil(len(images) / count)
    return [slice(start, start + size) for start in range(0, len(images), size)]


def _on_floats(
    recipe: Recipe, images: Tensor, out: Tensor, setting: Setting, parameters: tuple[float, ...]
) -> None:
    """Apply a recipe for values in [0, 1] to (B, C, H, W) `images`, into `out`."""
    if images.dtype != torch.uint8:
        out.copy_(recipe(images.to(torch.float32), setting, *parameters).clamp(0, 1))
        return
    x = images.to(torch.float32).div_(255)  # a copy: it and what a recipe makes of it may be overwritten
    levels = recipe(x, setting, *parameters).clamp_(0, 1).mul_(255).add_(FORGIVEN)
    out.copy_(levels.to(torch.int32))  # truncated; by way of int32 in half the time


def _on_levels(
    recipe: Recipe, images: Tensor, out: Tensor, setting: Setting, parameters: tuple[float, ...]
) -> None:
    """Apply a recipe for whole levels 0 to 255 to (B, C, H, W) `images`, into `out`."""
    if images.dtype == torch.uint8:
        out.copy_(recipe(images.to(torch.float32), setting, *parameters).to(torch.int32))
        return
    levels = images.to(torch.float32).mul(255).round_()
    out.copy_(recipe(levels, setting, *parameters).div_(255).clamp_(0, 1))


def _check_images(images: Tensor) -> None:
    """Raises a `BenchError` unless `images` is (B, 1 or 3, H, W), uint8 or floating-point in [0, 1]."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[1:]:
        raise BenchError(f"images of shape {tuple(images.shape)}; need (B, C, H, W) with 1 or 3 channels")
    if images.dtype == torch.uint8 or len(images) == 0:
        return
    if not images.is_floating_point():
        raise BenchError(f"images of type {images.dtype}; need uint8, or floating-point in [0, 1]")
    low, high = (value.item() for value in images.aminmax())
    if not (low >= 0 and high <= 1):  # not a number fails this too
        raise BenchError(f"image values from {low:g} to {high:g}; need [0, 1], or uint8 for 0 to 255")
