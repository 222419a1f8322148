"""Checkpoints are made: by training, or of what another code has saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sde.data import ImageDataset, load_dataset
from robustbench_sde.errors import BenchError
from robustbench_sde.models import importing
from robustbench_sde.models.checkpoint import CheckpointHeader
from robustbench_sde.models.compute import resolve_device
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.training import loop
from robustbench_sde.training.config import parse_config
from robustbench_sde.training.distributed import joined
from robustbench_sde.training.named import read_config


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    #: specification, data, and configuration and outcome of the training
    header: CheckpointHeader


def train(
    data: ImageDataset | str | None = None,
    out: str | Path | None = None,
    *,
    test: ImageDataset | None = None,
    config: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    resize: int | None = None,
    crop: int | None = None,
    class_order: str | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
    **options: Any,
) -> Checkpoint:
    """Train a Neural ODE or SDE classifier, and write a checkpoint after every epoch.

    Shuffling, augmentation and noise are keyed, so that a training that is resumed ends in the weights of an
    undisturbed one. Processes that `torchrun` has started train together (docs/scale.md).

    Args:
        data: the training split; or a data set by name, whose test split then scores the finished model. None
            is what the configuration says, or the embedded digits.
        out: the checkpoint to write, ending in .safetensors; None: in checkpoints/, named after what it is.
        test: images that the finished model is scored on, for its header.
        config: a YAML file of options, or a shipped one by its name (`sde-bench list configs`); options win.
        resume: go on after an interruption.
        force: overwrite an existing checkpoint.
        data_dir: as in `load_dataset`, for a data set by name.
        download: as in `load_dataset`.
        image_size: as in `load_dataset`.
        resize: as in `load_dataset`.
        crop: as in `load_dataset`.
        class_order: as in `load_dataset`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: told of every batch.
        **options: fields of `TrainConfig`: preset, noise, sigma, solver, epochs, lr, adversarial, seed and
            so on, as `sde-bench train --help` explains them.

    Returns:
        Where the checkpoint is, and its header with the accuracy on `test`.

    Raises:
        BenchError: an option is wrong, the checkpoint exists, or the loss is not finite.
        KeyboardInterrupt: after the weights so far have been written.
    """
    written = {} if config is None else read_config(str(config))
    known = written.pop("dataset", "digits")
    written.pop("description", None)
    parsed = parse_config(written | options)
    load: dict[str, Any] = {"data_dir": data_dir, "download": download, "image_size": image_size}
    load |= {"resize": resize, "crop": crop, "class_order": class_order}
    with joined(resolve_device(device)) as team:
        if not isinstance(data, ImageDataset):
            name = str(known) if data is None else data
            with team.first():
                data = load_dataset(name, split="train", **load)
                test = load_dataset(name, split="test", **load)
        path = _new(out, parsed.default_name(data), force or resume)
        progress = progress if team.leads else SILENT
        header = loop.train(parsed, data, path, test=test, resume=resume, team=team, progress=progress)
    return Checkpoint(path, header)


def import_checkpoint(
    weights: str | Path,
    data: ImageDataset,
    out: str | Path | None = None,
    *,
    preset: str = "liu2020",
    noise: str = "none",
    sigma: float | None = None,
    force: bool = False,
) -> Checkpoint:
    """Take over a network that another code has trained: convert its weights into a checkpoint.

    Args:
        weights: a state dict (`.pth`, `.pt`) or `.safetensors`; nothing in it runs: only
            tensors are read, and of other things an `argparse.Namespace` is let through.
        data: a split of the data that it was trained on, for its shape and classes.
        out: the checkpoint to write, ending in .safetensors; None: in checkpoints/, named as `weights`.
        preset: whose network it is: `liu2020`, or `odenet` (torchdiffeq's MNIST example).
        noise: kind of noise that it was trained with, `none` for an ODE; another than the file's is refused.
        sigma: its scale, compared with the file's; None takes that.
        force: overwrite an existing checkpoint.

    Returns:
        Where the checkpoint is, and its header.

    Raises:
        BenchError: the file is no such network, with all names that are missing or too many; or the
            checkpoint exists.
    """
    path = _new(out, Path(weights).stem, force)
    header = importing.import_checkpoint(Path(weights), path, data, preset=preset, noise=noise, sigma=sigma)
    return Checkpoint(path, header)


def _new(out: str | Path | None, name: str, overwrite: bool) -> Path:
    """Return the path to write a checkpoint to. Raises BenchError if it must not be written there."""
    path = Path("checkpoints") / f"{name}.safetensors" if out is None else Path(out)
    if path.suffix != ".safetensors":
        raise BenchError(f"`out` is {path}; it must end in .safetensors")
    if path.exists() and not overwrite:
        resumed = "`resume` to go on, " * loop.state_of(path).exists()
        raise BenchError(f"{path} exists; give `force` to overwrite it, {resumed}or another `out`")
    return path
