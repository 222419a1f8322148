"""JPEG compression of batches: torchvision where it has the codec, else Pillow. Both give the same bytes."""

import io
import warnings

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def through_jpeg(images: Tensor, quality: int) -> Tensor:
    """Compressed and read again: (B, C, H, W) uint8 on the CPU -> the same."""
    from torchvision import io as codecs  # a second of import, for JPEG alone

    # deprecated since torchvision 0.29, but three times as fast as Pillow on small images
    codec = by_torchvision if hasattr(codecs, "encode_jpeg") else by_pillow
    return codec(images, quality)


def by_torchvision(images: Tensor, quality: int) -> Tensor:
    """`through_jpeg`, all files at once."""
    from torchvision import io as codecs

    # pixel by pixel in memory, as the codec wants them
    pixels = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        decoded: list[Tensor] = codecs.decode_jpeg(codecs.encode_jpeg(list(pixels), quality=quality))
    return torch.stack(decoded)


def by_pillow(images: Tensor, quality: int) -> Tensor:
    """`through_jpeg`, image by image."""
    decoded = []
    for image in images.permute(0, 2, 3, 1).contiguous().numpy():
        stream = io.BytesIO()
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(
            stream, "JPEG", quality=quality
        )
        decoded.append(np.asarray(Image.open(stream, formats=("JPEG",))).reshape(image.shape))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)
