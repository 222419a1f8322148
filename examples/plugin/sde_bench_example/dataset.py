"""A data set: a function of a request."""

import numpy as np
import torch

from robustbench_sde.data import ImageDataset
from robustbench_sde.data.registry import Request

NAMES = ("disc", "square")
COUNT = {"train": 400, "test": 100}


def shapes(request: Request) -> ImageDataset:
    """Discs and squares of random size and place, 1x16x16; needs no files."""
    count = COUNT[request.split]
    random = np.random.Generator(np.random.Philox(key=sorted(COUNT).index(request.split)))
    labels = np.arange(count) % 2
    centre_y, centre_x = random.uniform(5, 10, (2, count, 1, 1))
    radius = random.uniform(2.5, 5, (count, 1, 1))
    rows, columns = np.mgrid[:16, :16]
    away = np.abs(rows - centre_y), np.abs(columns - centre_x)
    distance = np.where(labels[:, None, None] == 0, np.hypot(*away), np.maximum(*away))
    images = np.where(distance < radius, 255, 0).astype(np.uint8)
    return ImageDataset.whole(
        "shapes", request.split, torch.from_numpy(images)[:, None], torch.from_numpy(labels), NAMES
    )
