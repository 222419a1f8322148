"""Checkpoints are made: by training, or of what another code has saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sde.api.arguments import Data, dataset_of
from robustbench_sde.api.progress import shown_bar
from robustbench_sde.data import ImageDataset, load_dataset
from robustbench_sde.errors import BenchError, tell
from robustbench_sde.models import importing
from robustbench_sde.models.compute import resolve_device
from robustbench_sde.models.header import CheckpointHeader
from robustbench_sde.progress import Progress
from robustbench_sde.training import loop
from robustbench_sde.training.config import parse_config
from robustbench_sde.training.distributed import joined
from robustbench_sde.training.loggers import Loggers, find_loggers
from robustbench_sde.training.named import read_config
from robustbench_sde.training.state import state_of


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path
    #: specification, data, and configuration and outcome of the training
    header: CheckpointHeader

    def __repr__(self) -> str:
        """Return one line: the file, the data set, and the noise."""
        noise = " + ".join(f"{term.kind} sigma {term.sigma:g}" for term in self.header.model.noise)
        return f"<Checkpoint {self.path}: {self.header.dataset.name}, {noise or 'no noise'}>"


def train(
    data: ImageDataset | str | None = None,
    out: str | Path | None = None,
    *,
    test: ImageDataset | str | None = None,
    config: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: str = "bilinear",
    class_order: str | None = None,
    device: str = "auto",
    log: Loggers | None = None,
    progress: bool | Progress = False,
    **options: Any,
) -> Checkpoint:
    """Train a Neural ODE or SDE classifier, and write a checkpoint after every epoch.

    Shuffling, augmentation and noise are keyed, so that a resumed training ends with the same weights as a
    training without interruption. Processes that `torchrun` has started train one network together
    (docs/scale.md).

    Args:
        data: training split; or a data set by name, whose test split then scores the finished model. None
            takes the data set of the configuration, or the embedded digits.
        out: checkpoint to write, ending in .safetensors; None: in checkpoints/ with a name derived from the
            options.
        test: images on which the finished model is scored, for its header, or a data set by name, whose test
            split is taken.
        config: YAML file of options, or the name of a shipped file (`sde-bench list configs`); options
            given here override it.
        resume: whether to continue an interrupted training.
        force: whether to overwrite an existing checkpoint.
        data_dir: as in `load_dataset`, for a data set by name.
        download: as in `load_dataset`.
        image_size: as in `load_dataset`.
        resize: as in `load_dataset`.
        crop: as in `load_dataset`.
        interpolation: as in `load_dataset`.
        class_order: as in `load_dataset`.
        device: device that computes: `auto`, `cpu`, `cuda` or `mps`.
        log: trackers that get the numbers of each epoch: `tensorboard`, `mlflow`, `wandb`, the name of a
            plug-in, or a function of a `Training` that returns a `TrainingLogger`; or several of them. The
            numbers are also in ``<name>.log.csv`` beside the checkpoint.
        progress: whether to draw progress, on a terminal or in a notebook; or a receiver of progress, of
            every batch.
        **options: fields of `TrainConfig`, like preset, noise, sigma, solver, epochs, lr, adversarial and
            seed; `sde-bench train --help` explains them.

    Returns:
        Path of the checkpoint, and its header with the accuracy on `test`.

    Raises:
        BenchError: an option is wrong, the checkpoint exists, or the loss is not finite.
        KeyboardInterrupt: after the weights so far have been written.
    """
    written = {} if config is None else read_config(str(config))
    known = written.pop("dataset", "digits")
    written.pop("description", None)
    if "sigma" in options:  # the share that a file says would be another scale of dropout
        written.pop("keep", None)
    parsed, loggers = parse_config(written | options), find_loggers(log)
    if "sigma" in options and not parsed.sigma_matters:
        if any(term.kind != "none" for term in parsed.noise_terms()):
            raise BenchError(f"`sigma` is {parsed.sigma:g}, and `noise` or `keep` says another; give one")
        tell(f"a network without noise has no scale: `sigma` {parsed.sigma:g} changes nothing")
    load: dict[str, Any] = {"data_dir": data_dir, "download": download, "image_size": image_size}
    load |= {"resize": resize, "crop": crop, "interpolation": interpolation, "class_order": class_order}
    with joined(resolve_device(device)) as team:
        if not isinstance(data, ImageDataset):
            name = str(known) if data is None else data
            with team.first():
                data = load_dataset(name, split="train", **load)
                test = test or load_dataset(name, split="test", **load)
        scored = None if test is None else dataset_of(test)
        path = _new(out, parsed.default_name(data), force or resume)
        with shown_bar(progress if team.leads else False) as bar:
            header = loop.train(
                parsed,
                data,
                path,
                test=scored,
                resume=resume,
                team=team,
                progress=bar,
                loggers=loggers,
            )
    return Checkpoint(path, header)


def import_checkpoint(
    weights: str | Path,
    data: Data,
    out: str | Path | None = None,
    *,
    preset: str = "liu2020",
    noise: str = "none",
    sigma: float | None = None,
    force: bool = False,
) -> Checkpoint:
    """Convert the weights of a network that other code has trained into a checkpoint.

    Args:
        weights: file with a state dict (`.pth`, `.pt`) or `.safetensors`. No code in it is run: only
            tensors are read, and an `argparse.Namespace` is allowed and ignored.
        data: split of the data set on which the network was trained, or its name; gives shape and classes.
        out: checkpoint to write, ending in .safetensors; None: in checkpoints/ with the name of `weights`.
        preset: family of the network: `liu2020`, or `odenet` (torchdiffeq's MNIST example).
        noise: kind of noise with which the network was trained, `none` for an ODE; refused if the file
            contradicts it.
        sigma: noise scale, compared with that of the file; None takes that of the file.
        force: whether to overwrite an existing checkpoint.

    Returns:
        Path and header of the checkpoint.

    Raises:
        BenchError: the file is not such a network (the message lists missing and unexpected names), or the
            checkpoint exists.
    """
    path = _new(out, Path(weights).stem, force)
    importing.check_import(Path(weights), preset, noise)
    images = dataset_of(data)
    header = importing.import_checkpoint(Path(weights), path, images, preset=preset, noise=noise, sigma=sigma)
    return Checkpoint(path, header)


def _new(out: str | Path | None, name: str, overwrite: bool) -> Path:
    """Return the path to write a checkpoint to. Raises BenchError if it must not be written there."""
    path = Path("checkpoints") / f"{name}.safetensors" if out is None else Path(out)
    if path.suffix != ".safetensors":
        raise BenchError(f"`out` is {path}; it must end in .safetensors")
    if path.exists() and not overwrite:
        resumed = "`resume` to go on, " * state_of(path).exists()
        raise BenchError(f"{path} exists; give `force` to overwrite it, {resumed}or another `out`")
    return path
