"""Small models and data that many tests share."""

from pathlib import Path

import torch

from robustbench_sde.data import ImageDataset
from robustbench_sde.models.checkpoint import load_checkpoint, save_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.spec import ModelSpec


def make_model(kind: str = "multiplicative", sigma: float = 0.8, **changes: object) -> Classifier:
    """A tiny untrained classifier of 1x12x12 images in 4 classes, frozen."""
    spec = ModelSpec.model_validate(
        {
            "preset": f"tiny-{kind}",
            "channels": 1,
            "height": 12,
            "width": 12,
            "classes": 4,
            "features": 8,
            "stem_strides": (2,),
            "norm_groups": 2,
            "steps": 3,
            "noise": NoiseSpec(kind=kind, sigma=sigma),
            "mean": (0.5,),
            "std": (0.25,),
        }
        | changes
    )
    return Classifier.initialised(spec, seed=1).requires_grad_(False).eval()


def make_data(count: int = 12, shape: tuple[int, int, int] = (1, 12, 12), classes: int = 4) -> ImageDataset:
    """Random images with random labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, classes, (count,), generator=generator)
    names = tuple(f"class{index}" for index in range(classes))
    return ImageDataset.whole("random", "test", images, labels, names)


def save_dead_model(path: Path, kind: str = "multiplicative") -> Path:
    """A checkpoint for the embedded digits whose weights are 0: logits are equal, and all gradients 0."""
    model = load_checkpoint(save_digits_model(path, kind))
    with torch.no_grad():
        for weight in model.state_dict().values():
            weight.zero_()
    dataset = DatasetRef(name="digits", fingerprint="", class_names=tuple("0123456789"))
    save_checkpoint(path, model, CheckpointHeader(model=model.spec, dataset=dataset))
    return path


def save_digits_model(path: Path, kind: str = "multiplicative", **changes: object) -> Path:
    """A checkpoint of a tiny untrained classifier that takes the embedded digits."""
    model = make_model(kind, **({"height": 32, "width": 32, "classes": 10, "stem_strides": (4, 2)} | changes))
    dataset = DatasetRef(name="digits", fingerprint="", class_names=tuple("0123456789"))
    save_checkpoint(path, model, CheckpointHeader(model=model.spec, dataset=dataset))
    return path
