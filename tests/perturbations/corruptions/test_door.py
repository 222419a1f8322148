"""Names, families and errors."""

import math

import pytest
import torch

from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.corruptions import CORRUPTIONS, corrupt, select
from robustbench_sde.perturbations.corruptions.severities import FAMILIES, choose_family

IMAGES = torch.zeros(2, 3, 8, 8)


def test_the_benchmark_has_15_corruptions_and_4_extra() -> None:
    """The registry is the published list, and every family has five severities of each."""
    assert len(CORRUPTIONS) == 19
    assert sum(corruption.benchmark for corruption in CORRUPTIONS.values()) == 15
    for family in FAMILIES.values():
        assert set(family.table) == {name for name, one in CORRUPTIONS.items() if one.severities is None}
        assert all(len(severities) == 5 for severities in family.table.values())


@pytest.mark.parametrize(
    ("text", "count", "first"),
    [
        ("all", 19, "gaussian_noise"),
        ("benchmark", 15, "gaussian_noise"),
        ("noise", 4, "gaussian_noise"),
        ("blur", 5, "defocus_blur"),
        ("weather", 5, "snow"),
        ("digital", 5, "contrast"),
        ("fog, snow", 2, "fog"),
        ("fog,weather,fog", 5, "fog"),
        ("rotation:15,uniform:0.1", 2, "rotation:15"),
    ],
)
def test_selections(text: str, count: int, first: str) -> None:
    """Groups, names and comma lists, each name once, in the order given."""
    names = select(text)
    assert len(names) == len(set(names)) == count
    assert names[0] == first


@pytest.mark.parametrize(
    ("side", "family"),
    [(1, "cifar"), (48, "cifar"), (49, "tiny-imagenet"), (128, "tiny-imagenet"), (129, "imagenet")],
)
def test_the_family_follows_the_smaller_side(side: int, family: str) -> None:
    """Up to 48 pixels CIFAR, up to 128 Tiny ImageNet, then ImageNet."""
    assert choose_family(None, side).name == family


def test_a_named_family_wins_over_the_size() -> None:
    """The noise of ImageNet-C is stronger than that of CIFAR-10-C."""
    grey = torch.full((4, 3, 32, 32), 0.5)
    change = [(corrupt(grey, "gaussian_noise", 5, family=f) - grey).std() for f in ("cifar", "imagenet")]
    assert change[0] == pytest.approx(0.10, rel=0.05)
    assert change[1] > 2 * change[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fogg"}, "did you mean 'fog'"),
        ({"name": "gaussian"}, "gaussian:SIGMA"),
        ({"name": "rotation:-3"}, "rotation:DEGREES"),
        ({"name": "uniform:nan"}, "uniform:EPS"),
        ({"severity": 6}, "`severity` 6"),
        ({"severity": 2.5}, "`severity` 2.5"),
        ({"severity": True}, "`severity` True"),
        ({"family": "cifar10"}, "did you mean 'cifar'"),
        ({"image_ids": [1]}, "1 image_ids for 2 images"),
        ({"images": torch.zeros(3, 8, 8)}, "shape"),
        ({"images": torch.zeros(2, 4, 8, 8)}, "1 or 3 channels"),
        ({"images": torch.zeros(2, 3, 0, 8)}, "shape"),
        ({"images": torch.zeros(2, 3, 8, 8, dtype=torch.int64)}, "int64"),
        ({"images": torch.full((2, 3, 8, 8), 255.0)}, "255"),
        ({"images": torch.full((2, 3, 8, 8), -0.1)}, "-0.1"),
        ({"images": torch.full((2, 3, 8, 8), math.nan)}, "nan"),
    ],
    ids=str,
)
def test_wrong_arguments_are_one_clear_line(arguments: dict[str, object], message: str) -> None:
    """The error says what is wrong and has one line."""
    call = {"images": IMAGES, "name": "fog", "severity": 1, **arguments}
    with pytest.raises(BenchError) as caught:
        corrupt(call.pop("images"), call.pop("name"), call.pop("severity"), **call)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "fogg", "noise,", "uniform:x", "rotation"])
def test_wrong_selections_raise(text: str) -> None:
    """Empty words and unknown names are errors, not empty selections."""
    with pytest.raises(BenchError):
        select(text)


def test_plain_perturbations_have_the_size_they_are_given() -> None:
    """Noise in its bounds, and rotations and translations that move the image by their parameter."""
    grey = torch.full((8, 3, 32, 32), 0.5)
    uniform = corrupt(grey, "uniform:0.1", 1) - grey
    assert 0.095 < uniform.abs().max() <= 0.1 + 1e-6
    assert (corrupt(grey, "gaussian:0.05", 1) - grey).std() == pytest.approx(0.05, rel=0.05)

    dot = torch.zeros(16, 1, 33, 33)
    dot[..., 16, 26] = 1
    for name, centre in (("rotation:90", (16, 16)), ("translation:4", (16, 26))):
        moved = corrupt(dot, name, 0)
        rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
        row = (moved[:, 0] * rows).sum((1, 2)) / moved.sum((1, 2, 3))
        column = (moved[:, 0] * columns).sum((1, 2)) / moved.sum((1, 2, 3))
        distance = torch.hypot(row - centre[0], column - centre[1])
        expected = 10.0 if name.startswith("rotation") else 4.0
        assert torch.allclose(distance, torch.full((16,), expected), atol=0.05)
        assert len({round(value, 1) for value in row.tolist()}) > 1


@pytest.mark.parametrize("severity", [1, 2, 4, 5])
def test_splashes_cover_as_much_at_other_sizes(severity: int) -> None:
    """The published lengths are scaled without changing much how strong spatter is."""
    changes = []
    for side in (28, 32, 48, 64):
        grey = torch.full((64, 3, side, side), 0.5)
        changes.append((corrupt(grey, "spatter", severity, family="cifar") - grey).abs().mean().item())
    assert min(changes) > 0.6 * max(changes)
