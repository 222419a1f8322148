"""Checkpoints of other people's code, as ours. Nothing in a foreign file is executed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError
from torch import Tensor

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.models.checkpoint import check_tensors, save_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.models.noise import KINDS
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.models.published.liu2020 import from_liu2020
from robustbench_sde.models.published.odenet import from_odenet
from robustbench_sde.models.renaming import Foreign
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.models.strict import first_problem
from robustbench_sde.models.weights import read_weights
from robustbench_sde.storage.provenance import file_sha256

#: Families that can be imported: (path, tensors by name, noise, sigma) to our names.
FAMILIES: Mapping[str, Callable[[Path, dict[str, Tensor], str, float | None], Foreign]] = MappingProxyType(
    {"liu2020": from_liu2020, "odenet": from_odenet}
)


def check_import(path: Path, preset: str, noise: str) -> None:
    """Check what can be checked without the data set, which may have to be fetched.

    Raises:
        BenchError: there is no such file, family or noise.
    """
    if not path.exists():
        raise BenchError(f"{path} does not exist")
    if preset not in FAMILIES:
        raise unknown_name("preset to import", preset, FAMILIES)
    if noise not in KINDS:
        raise unknown_name("noise", noise, KINDS)


def import_checkpoint(
    path: Path, out: Path, data: ImageDataset, *, preset: str, noise: str, sigma: float | None = None
) -> CheckpointHeader:
    """Convert what another code has saved into a checkpoint.

    Args:
        path: its weights, as `read_weights` takes them.
        out: checkpoint to write.
        data: a split of the data that the network was trained on, for its shape and classes.
        preset: whose format it is: `FAMILIES`.
        noise: kind of noise it was trained with.
        sigma: its scale, to be compared with the one in the file; None takes that.

    Raises:
        BenchError: the file is not such a state dict (with all names that are missing or too many), does not
            fit the data or sigma, or holds NaN or infinity.
    """
    check_import(path, preset, noise)
    found = FAMILIES[preset](path, read_weights(path), noise, sigma)
    spec = _spec(path, found, data)
    check_tensors(path, found.weights, Classifier.weight_shapes(spec))
    header = CheckpointHeader(
        model=spec,
        dataset=DatasetRef(name=data.name, fingerprint="unknown", class_names=data.class_names),
        training={"imported": path.name, "sha256": file_sha256(path)},
    )
    save_checkpoint(out, Classifier.from_weights(spec, found.weights), header)
    return header


def _spec(path: Path, found: Foreign, data: ImageDataset) -> ModelSpec:
    channels, height, width = data.image_shape
    classes, features = found.weights["head.linear.weight"].shape
    first = "stem.conv1.weight" if "stem.conv1.weight" in found.weights else "stem.conv.weight"
    inputs = found.weights[first].shape[1]
    if (inputs, classes) != (channels, data.classes):
        raise BenchError(
            f"{path} is for {inputs} channels and {classes} classes, "
            f"but {data.name} has {channels} and {data.classes}"
        )
    groups = min(features, PRESETS[found.preset]["norm_groups"])
    own = {"features": features, "norm_groups": groups, "blocks": found.blocks, "noise": found.noise}
    own |= {"solver": found.solver}
    images = {"channels": channels, "height": height, "width": width, "classes": classes}
    pixels = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    try:
        return ModelSpec.model_validate(
            {"preset": found.preset, **PRESETS[found.preset], **images, **pixels, **own}
        )
    except ValidationError as error:
        raise first_problem(error, str(path)) from error
