"""Images with stable ids, loaded by name."""

from robustbench_sde.data.dataset import ImageDataset, to_float
from robustbench_sde.data.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "ImageDataset", "load_dataset", "to_float"]
