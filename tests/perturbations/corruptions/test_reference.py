"""The corruptions against what the published CIFAR-10-C generator makes of 32 CIFAR-10 test images.

`tests/data/corruptions.npz` holds the clean images (32, 32, 32, 3); for the deterministic corruptions the
published output for the first 8 of them, (5, 8, 32, 32, 3); for the random ones `statistics` of the published
output for all 32, (5, statistics): one draw. `tests/data/corruption_recipes.json` holds mean and standard
deviation of these statistics over 128 draws of the published recipes on the same images, as stored by
`benchmarks/corruption_reference.py --write`.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from robustbench_sde.perturbations.corruptions import CORRUPTIONS, corrupt

FOLDER = Path(__file__).parents[2] / "data"
DATA = np.load(FOLDER / "corruptions.npz")
RECIPES = json.loads((FOLDER / "corruption_recipes.json").read_text())

DETERMINISTIC = (
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
    "defocus_blur",
    "gaussian_blur",
    "zoom_blur",
)
RANDOM = [name for name in CORRUPTIONS if name in DATA and name not in DETERMINISTIC]

#: Draws of ours over the 32 images: enough that the standard error of their mean is a third of a limit.
RUNS = 32
#: Relative limits: mean absolute change (twice that for large layers), spread over images, spectrum.
CHANGE, SPREAD, SPECTRUM = 0.05, 0.20, 0.10
LARGE_LAYERS = ("frost", "snow", "spatter", "glass_blur")

Images = npt.NDArray[np.uint8]
#: Rings of the power spectrum, in cycles per image, and the least share of the power that is compared.
RINGS, COMPARED = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (12, 17), (17, 24)], 0.05


def statistics(corrupted: Images, clean: Images) -> npt.NDArray[np.float64]:
    """Mean absolute change, its deviation over images, mean change by channel (3), power by ring."""
    change = corrupted.astype(float) - clean
    by_image = np.abs(change).mean((1, 2, 3))
    power = (np.abs(np.fft.fft2(change, axes=(1, 2))) ** 2).mean((0, 3))
    axis = np.fft.fftfreq(32, 1 / 32)
    ring = np.rint(np.hypot(axis[:, None], axis[None]))
    rings = [power[(ring >= low) & (ring < high)].sum() for low, high in RINGS]
    return np.array([by_image.mean(), by_image.std(), *change.mean((0, 1, 2)), *rings])


def to_tensor(images: Images) -> torch.Tensor:
    """(N, H, W, C) numpy -> (N, C, H, W) torch."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def to_numpy(images: torch.Tensor) -> Images:
    """(N, C, H, W) torch -> (N, H, W, C) numpy."""
    return images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_corruptions_equal_the_published_ones(name: str, severity: int) -> None:
    """No value is more than one 8-bit level off, and nine in ten are equal."""
    published = DATA[name][severity - 1]
    ours = to_numpy(corrupt(to_tensor(DATA["clean"][: len(published)]), name, severity))
    difference = np.abs(ours.astype(int) - published)
    # the levels that differ are whole numbers before truncation, where the published float64 falls just short
    assert difference.max() <= 1
    assert difference.mean() <= 0.1


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", RANDOM)
def test_random_corruptions_are_distributed_as_the_published_recipes(name: str, severity: int) -> None:
    """Change, its spread over images, its colour and its power spectrum are those to be expected."""
    clean, expected = DATA["clean"], np.array(RECIPES[name]["mean"][severity - 1])
    images = to_tensor(np.tile(clean, (RUNS, 1, 1, 1)))
    ours = to_numpy(corrupt(images, name, severity)).reshape(RUNS, *clean.shape)
    difference = np.abs(np.mean([statistics(run, clean) for run in ours], axis=0) - expected)

    change = CHANGE * (2 if name in LARGE_LAYERS else 1)
    assert difference[0] <= change * expected[0]
    assert difference[1] <= SPREAD * expected[1]
    assert (difference[2:5] <= change * expected[0]).all()
    power = expected[5:]
    compared = power >= COMPARED * power.sum()
    assert (difference[5:] <= SPECTRUM * power)[compared].all()


@pytest.mark.parametrize("name", RANDOM)
def test_the_published_output_is_a_typical_draw_of_the_recipes(name: str) -> None:
    """Published statistics lie 1 standard deviation of a draw from their expectation, root mean square."""
    recipes = RECIPES[name]
    deviations = (DATA[name] - np.array(recipes["mean"])) / np.array(recipes["deviation"])
    assert 0.5 <= np.sqrt((deviations**2).mean()) <= 1.5
    assert np.abs(deviations).max() <= 5
