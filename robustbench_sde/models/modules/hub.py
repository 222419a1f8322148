"""Networks of timm, torchvision and transformers by name, from files on this disk; nothing is downloaded.

Normalisation, image size and class names come from the library's own configuration of the network.
"""

import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_sde.data import ImageDataset
from robustbench_sde.data.framing import Framing
from robustbench_sde.errors import BenchError, one_line, unknown_name
from robustbench_sde.models.weights import load_weights, read_weights

#: filters by the numbers of Pillow, which processors of transformers have
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
#: packages by the words in front of the colon
HUBS: Mapping[str, str] = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}


class HubModel(nn.Module):
    """A network that takes images in [0, 1] and returns logits."""

    def __init__(
        self,
        net: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        framing: Framing,
        class_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.net = net
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))
        #: how its own evaluation brings images to one size
        self.framing = framing
        #: one name per logit; empty if unknown
        self.class_names = class_names

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        found = self.net((images - self.mean) / self.std)
        logits: Tensor = getattr(found, "logits", found)
        return logits

    def notes(self, data: ImageDataset) -> tuple[str, ...]:
        """Return what the network's configuration says against these data, a line each."""
        notes = []
        height, width = data.image_shape[1:]
        own = self.framing
        size = own.crop or own.squeeze
        if size is not None and (height, width) != size:
            notes.append(
                f"its configuration is for images of {size[0]}x{size[1]}, {data.name} has {height}x{width}: "
                f"for image folders, {own}"
            )
        elif data.framing is not None and own and data.framing != own:
            notes.append(f"its configuration has {own}; these images were loaded with {data.framing}")
        ours, theirs = _comparable(data.class_names), _comparable(self.class_names)
        wrong = [
            place for place, (mine, other) in enumerate(zip(ours, theirs, strict=False)) if mine != other
        ]
        if wrong and set(ours) == set(theirs):
            notes.append(
                f"its configuration has the classes in another order: {wrong[0]} is "
                f"{self.class_names[wrong[0]]!r}, in {data.name} {data.class_names[wrong[0]]!r}; give "
                "`class_order` or `class_map`"
            )
        return tuple(notes)


def hub_of(text: str) -> str | None:
    """Return the word in front of the colon of ``timm:NAME``; None if the text is no network of a hub."""
    word, colon, name = text.partition(":")
    return word if colon and name and word in HUBS else None


def make_hub(text: str, weights: Path | None) -> HubModel:
    """Make ``timm:NAME`` or ``torchvision:NAME`` with weights of a file, or ``hf:FOLDER`` with its own.

    Args:
        text: name of the network.
        weights: as for `load_weights`; ``timm`` and ``torchvision`` need it.

    Raises:
        BenchError: the package is not installed, has no such network, or the weights are missing or do not
            fit.
    """
    word, _, name = text.partition(":")
    try:
        metadata.version(HUBS[word])
    except metadata.PackageNotFoundError:
        raise BenchError(
            f"{text} needs the package {HUBS[word]}: pip install 'robustbench-sde[hub]'"
        ) from None
    if word == "hf":
        made = _transformers(Path(name))
    elif weights is None:
        raise BenchError(
            f"{text} needs `weights`: nothing is downloaded, and an untrained network gives no information"
        )
    else:
        made = (_timm if word == "timm" else _torchvision)(name, weights)
    if weights is not None:
        load_weights(made.net, weights)
    return made.eval()


def hub_version(text: str) -> str:
    """Return package and version behind a network of a hub."""
    package = HUBS[text.partition(":")[0]]
    return f"{package} {metadata.version(package)}"


def _timm(name: str, weights: Path) -> HubModel:
    import timm

    if not timm.is_model(name):
        raise unknown_name("network of timm", name, timm.list_models())
    config = timm.create_model(name, pretrained=False).pretrained_cfg
    found = _under(weights, config["classifier"], config.get("first_conv"))
    made = timm.create_model(name, pretrained=False, **found)
    size, share = config["input_size"][1:], config.get("crop_pct") or 1.0
    mode, filter_ = config.get("crop_mode") or "center", config.get("interpolation") or "bilinear"
    if mode == "squash":
        framing = Framing(squeeze=tuple(math.floor(side / share) for side in size), interpolation=filter_)
    else:
        framing = Framing(resize=math.floor(min(size) / share), crop=tuple(size), interpolation=filter_)
    return HubModel(made, tuple(config["mean"]), tuple(config["std"]), framing)


def _under(weights: Path, classifier: Any, first: Any) -> dict[str, int]:
    """Return the numbers of classes and channels that a file of timm's names has weights for."""
    found = read_weights(weights)
    numbers = {}
    for option, layer, axis in (("num_classes", classifier, 0), ("in_chans", first, 1)):
        names = [name for name in found if isinstance(layer, str) and name.endswith(f"{layer}.weight")]
        if names and found[names[0]].ndim > axis:
            numbers[option] = found[names[0]].shape[axis]
    return numbers


def _torchvision(name: str, weights: Path) -> HubModel:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise unknown_name("network of torchvision", name, models.list_models(module=models))
    found = list(read_weights(weights).values())
    classes = found[-1].shape[0] if found and found[-1].ndim else 1000
    usual = models.get_model_weights(name).DEFAULT
    transform = usual.transforms()
    names = tuple(usual.meta["categories"])
    return HubModel(
        models.get_model(name, weights=None, num_classes=classes),
        tuple(transform.mean),
        tuple(transform.std),
        Framing(
            resize=transform.resize_size[0],
            crop=(transform.crop_size[0],) * 2,
            interpolation=transform.interpolation.value,
        ),
        names if classes == len(names) else (),
    )


def _transformers(folder: Path) -> HubModel:
    from transformers import AutoModelForImageClassification

    if not (folder / "config.json").is_file():
        raise BenchError(f"hf:{folder} has no config.json; it is a folder that save_pretrained wrote")
    try:
        net, told = AutoModelForImageClassification.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # somebody else's reader may raise anything
        raise BenchError(f"hf:{folder} cannot be read by transformers: {one_line(error)}") from error
    lacking = sorted(told["missing_keys"]) or sorted(map(str, told["mismatched_keys"]))
    if lacking:
        raise BenchError(
            f"hf:{folder} has no weights for {', '.join(lacking[:8])}: it is not a classifier yet"
        )
    mean, std, framing = _processor(folder)
    names = net.config.id2label
    return HubModel(net, mean, std, framing, tuple(str(names[index]) for index in range(len(names))))


def _processor(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...], Framing]:
    """Return mean, deviation and sizes of the images that a folder's own processor makes."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise BenchError(f"{folder} has no preprocessor_config.json, which says how images are normalised")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        scale = (
            float(config.get("rescale_factor", 1 / 255)) * 255 if config.get("do_rescale", True) else 255.0
        )
        mean, std = (0.0,), (1.0,)
        if config.get("do_normalize", True):
            mean, std = tuple(config["image_mean"]), tuple(config["image_std"])
        framing = _framing(config)
        return tuple(one / scale for one in mean), tuple(one / scale for one in std), framing
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BenchError(f"cannot read {file}: {one_line(error)}") from error


def _framing(config: Mapping[str, Any]) -> Framing:
    """Return the sizes of a processor: a shorter side or a height and a width, and a crop from the centre."""
    size = config.get("size") if config.get("do_resize", True) else None
    if isinstance(size, int):
        size = {"height": size, "width": size}
    filter_ = _FILTERS[int(config.get("resample", 2))]
    given = config.get("crop_size") if config.get("do_center_crop") else None
    given = {"height": given, "width": given} if isinstance(given, int) else given
    crop = None if given is None else (int(given["height"]), int(given["width"]))
    if size is None:
        return Framing(crop=crop)
    if "shortest_edge" not in size:
        return Framing(squeeze=(int(size["height"]), int(size["width"])), interpolation=filter_)
    shorter = int(size["shortest_edge"])
    if "crop_pct" in config and shorter < 384:  # ConvNeXt: the number is what is cut out
        return Framing(
            resize=int(shorter / config["crop_pct"]), crop=(shorter, shorter), interpolation=filter_
        )
    return Framing(resize=shorter, crop=crop, interpolation=filter_)


def _comparable(names: tuple[str, ...]) -> list[str]:
    return [name.strip().lower().replace("_", " ") for name in names]
