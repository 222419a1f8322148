"""Corrupt images from Python."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from robustbench_sde.api.progress import shown_bar
from robustbench_sde.data import ImageDataset, load_dataset
from robustbench_sde.perturbations.corruptions import apply
from robustbench_sde.progress import Progress


def corrupt(
    images: Tensor | ImageDataset | str,
    name: str,
    severity: int,
    *,
    image_ids: Sequence[int] | Tensor | None = None,
    seed: int = 0,
    family: str | None = None,
    frost_dir: str | Path | None = None,
    progress: bool | Progress = False,
) -> Tensor:
    """Apply a common corruption to images, as in CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C.

    A corrupted image depends only on (seed, name, severity, image id), not on its batch.

    Args:
        images: (B, C, H, W) with 1 or 3 channels, uint8 or floating-point in [0, 1], on any device; or a
            data set, or the name of one, whose test split is taken.
        name: one of `CORRUPTIONS`, a simple perturbation with its parameter like `gaussian:0.1`, or the
            name of a plug-in.
        severity: severity from 1 to 5, or 0 for unchanged images. Simple perturbations ignore it.
        image_ids: (B,) ids of the images, the keys of the random numbers; None: those of a data set, or 0 to
            B - 1.
        seed: any integer.
        family: family of parameters, "cifar", "tiny-imagenet" or "imagenet". None: chosen by the smaller
            side of the images (up to 48, up to 128, larger). Lengths in pixels are multiplied by this side
            divided by the resolution of the family (32, 64, 224): radii and sigmas of blurs, `max_delta` of
            glass_blur, and the smoothing of spatter. Zoom factors, shares and intensities are not lengths.
        frost_dir: folder with the five original frost photographs; None: frost is synthetic.
        progress: whether to draw a bar, on a terminal or in a notebook; or a receiver of progress.

    Returns:
        Corrupted images (B, C, H, W) with the dtype and device of `images`. uint8 images are truncated, as in
        the published code; floats are only clipped to [0, 1]. (pixelate and jpeg_compression work on 8-bit
        images and round floats to 8 bits.)

    Raises:
        BenchError: a name, a value, a shape or a type is wrong.

    Source: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations", ICLR 2019.
    """
    if isinstance(images, str):
        images = load_dataset(images)
    if isinstance(images, ImageDataset):
        image_ids = images.ids if image_ids is None else image_ids
        images = images.images
    with shown_bar(progress) as bar:
        return apply.corrupt(
            images,
            name,
            severity,
            image_ids=image_ids,
            seed=seed,
            family=family,
            frost_dir=frost_dir,
            progress=bar,
        )
