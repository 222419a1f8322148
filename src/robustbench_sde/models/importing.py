"""Checkpoints of other people's code, as ours. Nothing in a foreign file is executed."""

import re
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.models.checkpoint import CheckpointHeader, DatasetRef, check_tensors, save_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.liu2020 import TIME_CHANNELS
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.models.spec import ModelSpec, NoiseSpec, first_problem
from robustbench_sde.models.weights import differences, read_weights
from robustbench_sde.results.provenance import file_sha256

#: Presets that there is a foreign format of.
IMPORTABLE = ("liu2020",)

_FLOW = re.compile(r"multiscale_flows\.flows\.(\d+)\.")
#: theirs to ours, weight and bias each
_ENDS = {
    "downsampling_layers.0": "stem.conv1",
    "downsampling_layers.1": "stem.norm1",
    "downsampling_layers.3": "stem.conv2",
    "downsampling_layers.4": "stem.norm2",
    "downsampling_layers.6": "stem.conv3",
    "fc_layers.0": "head.norm",
    "fc_layers.4": "head.linear",
}
#: the same within a flow
_DRIFT = {f"flow_fn.{name}": name for name in ("norm1", "norm2", "conv2", "norm3", "conv3", "norm4")}
_DRIFT |= {"flow_fn.conv1._layer": "conv1"}
#: what a flow keeps of its noise, by kind; their dropout is a jump process
_NOISE = {
    "none": {"sigma": "diffusion.sigma"},  # which is 0
    "additive": {"sigma": "diffusion.sigma"},
    "multiplicative": {"sigma": "diffusion.sigma"},
    "jump": {"sigma": "jump.scale", "rate": "jump.rate"},
}


def import_checkpoint(
    path: Path, out: Path, data: ImageDataset, *, preset: str, noise: str, sigma: float | None = None
) -> CheckpointHeader:
    """Convert a state dict of the released code of Liu et al. (CVPR 2020) into a checkpoint.

    Args:
        path: what their training saves: a ``.pth`` with a state dict, of drift version "v2".
        out: checkpoint to write.
        data: a split of the data that the network was trained on, for its shape and classes.
        preset: whose format it is: `IMPORTABLE`.
        noise: kind of noise it was trained with, which the file does not say.
        sigma: its scale, to be compared with the one in the file; None takes that.

    Raises:
        BenchError: the file is not such a state dict (with all names that are missing or too many), does not
            fit the data or sigma, or holds NaN or infinity.
    """
    if preset not in IMPORTABLE:
        raise unknown_name("preset to import", preset, IMPORTABLE)
    if noise not in _NOISE:
        hint = "; their dropout is a jump process: choose jump" if noise == "dropout" else ""
        raise BenchError(f"{unknown_name('noise', noise, _NOISE)}{hint}")
    foreign = read_weights(path)
    flows = len({found[1] for name in foreign if (found := _FLOW.match(name))})
    weights = _renamed(path, foreign, flows, noise)
    spec = _spec(path, weights, data, preset, flows, _noise_term(path, foreign, noise, sigma))
    check_tensors(path, weights, Classifier.weight_shapes(spec))
    header = CheckpointHeader(
        model=spec,
        dataset=DatasetRef(name=data.name, fingerprint="unknown", class_names=data.class_names),
        training={"imported": path.name, "sha256": file_sha256(path)},
    )
    save_checkpoint(out, Classifier.from_weights(spec, weights), header)
    return header


def _renamed(path: Path, foreign: dict[str, Tensor], flows: int, noise: str) -> dict[str, Tensor]:
    """Our names; the weights of conv(t) part into those of the state and those of time."""
    names = dict(_ENDS)
    for flow in range(max(1, flows)):
        there = f"multiscale_flows.flows.{flow}"
        names |= {f"{there}.{old}": f"flows.{flow}.{new}" for old, new in _DRIFT.items()}
    ours = {f"{old}.{part}": f"{new}.{part}" for old, new in names.items() for part in ("weight", "bias")}
    expected = ours.keys() | {
        f"multiscale_flows.flows.{flow}.{name}" for flow in range(flows) for name in _NOISE[noise].values()
    }
    problem = differences(missing=expected - foreign.keys(), unexpected=foreign.keys() - expected)
    if problem:
        raise BenchError(f"{path} is not a liu2020 network with {noise} noise; {problem}")
    for old, new in ours.items():
        dimensions = 1 if "norm" in new or old.endswith("bias") else 2 if "linear" in new else 4
        if foreign[old].ndim != dimensions:
            raise BenchError(f"{path}: {old} has {foreign[old].ndim} dimensions, not {dimensions}")
    weights = {new: foreign[old].float() for old, new in ours.items()}
    for flow in range(flows):
        both = weights[f"flows.{flow}.conv1.weight"]
        weights[f"flows.{flow}.time.weight"] = both[:, :TIME_CHANNELS].clone()
        weights[f"flows.{flow}.conv1.weight"] = both[:, TIME_CHANNELS:].clone()
    return weights


def _noise_term(path: Path, foreign: dict[str, Tensor], noise: str, sigma: float | None) -> NoiseSpec:
    values = {}
    for field, name in _NOISE[noise].items():
        found = [tensor.flatten() for key, tensor in foreign.items() if key.endswith(f".{name}")]
        numbers = set(torch.cat(found).tolist())
        if len(numbers) != 1:
            raise BenchError(
                f"{path}: {name} must be one number, the same in all flows, not {sorted(numbers)}"
            )
        values[field] = round(numbers.pop(), 6)  # they store float32
    stored = values["sigma"]
    if noise == "none" and stored:
        raise BenchError(
            f"{path} was trained with sigma {stored:g}: say which --noise, additive or multiplicative"
        )
    if sigma is not None and stored != sigma:
        raise BenchError(
            f"{path} was trained with sigma {stored:g}, not {sigma:g}; leave --sigma out, "
            "and give another one when you evaluate"
        )
    try:
        return NoiseSpec.model_validate({"kind": noise, **values})
    except ValidationError as error:
        raise first_problem(error, f"{path}: noise") from error


def _spec(
    path: Path, weights: dict[str, Tensor], data: ImageDataset, preset: str, flows: int, noise: NoiseSpec
) -> ModelSpec:
    channels, height, width = data.image_shape
    classes, features = weights["head.linear.weight"].shape
    inputs = weights["stem.conv1.weight"].shape[1]
    if (inputs, classes) != (channels, data.classes):
        raise BenchError(
            f"{path} is for {inputs} channels and {classes} classes, "
            f"but {data.name} has {channels} and {data.classes}"
        )
    groups = min(features, PRESETS[preset]["norm_groups"])
    own = {"features": features, "norm_groups": groups, "blocks": flows, "noise": noise}
    images = {"channels": channels, "height": height, "width": width, "classes": classes}
    pixels = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    try:
        return ModelSpec.model_validate({"preset": preset, **PRESETS[preset], **images, **pixels, **own})
    except ValidationError as error:
        raise first_problem(error, str(path)) from error
