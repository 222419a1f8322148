"""scikit-learn's 1,797 real handwritten digits: the data set that is always there."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from robustbench_sde.data.dataset import ImageDataset, keyed_ranks

TEST_IMAGES = 360
SIDE = 32
#: the largest pixel value of the original 8x8 images
_WHITE = 16
#: fixes which digits are test images
_SPLIT_KEY = 0xD1617500


def load_digits(split: str) -> ImageDataset:
    """The 1,437 ``train`` or the 360 ``test`` digits, as 1x32x32 images in the order of the original file."""
    from sklearn.datasets import load_digits as original

    bunch = original()
    labels = np.asarray(bunch.target, dtype=np.int64)
    chosen = np.flatnonzero(is_test(labels) == (split == "test"))
    images = upsample(torch.from_numpy(bunch.images[chosen]))
    names = [str(digit) for digit in range(10)]
    return ImageDataset.whole("digits", split, images, torch.from_numpy(labels[chosen]), names)


def is_test(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(n,) bool: which are test images, `TEST_IMAGES` of them, each class with its share to within one.

    The images are ordered by class and, within a class, by a keyed permutation; then every 4.99th is taken
    (systematic sampling), which gives the exact total and an even share of every stretch of that order.
    """
    count = len(labels)
    order = np.lexsort((keyed_ranks(count, _SPLIT_KEY), labels))
    taken_before = np.arange(count + 1) * TEST_IMAGES // count
    mask = np.zeros(count, dtype=np.bool_)
    mask[order] = np.diff(taken_before) == 1
    return mask


def upsample(images: Tensor) -> Tensor:
    """(n, 8, 8) values in 0..16 as (n, 1, 32, 32) uint8 in 0..255, bilinear.

    The weights are multiples of 1/64, so that float32 is exact up to the rounding and every machine gets
    the same pixels; this is why the scaling comes after the interpolation.
    """
    size = (SIDE, SIDE)
    larger = interpolate(images.to(torch.float32).unsqueeze(1), size, mode="bilinear", align_corners=False)
    return (larger * 255 / _WHITE).round().to(torch.uint8)
