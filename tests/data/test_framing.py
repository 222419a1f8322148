"""Sizes and the order of classes of image folders."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from robustbench_sde.data import load_dataset
from robustbench_sde.errors import BenchError, BenchWarning

RANDOM = np.random.Generator(np.random.Philox(0))


def save(path: Path, height: int = 4, width: int = 5, value: int | None = None) -> Path:
    """A file of random pixels, or of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels if value is None else np.full_like(pixels, value)).save(path)
    return path


@pytest.mark.parametrize(("resize", "crop"), [(16, 12), (16, 16), (13, 9), (40, 31), (None, 7)])
def test_shorter_side_and_centre_crop_are_torchvisions(tmp_path: Path, resize: int | None, crop: int):
    """Images of any size get the pixels of Resize and CenterCrop, in either orientation."""
    files = [
        save(tmp_path / "test" / label / "x.png", *size)
        for label, size in (("a", (20, 33)), ("b", (33, 20)), ("c", (17, 17)))
    ]
    theirs = Compose([*([Resize(resize)] if resize else []), CenterCrop(crop), PILToTensor()])
    expected = torch.stack([theirs(Image.open(file)) for file in files])
    assert load_dataset(f"image-folder:{tmp_path}", resize=resize, crop=crop).images.equal(expected)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"])
def test_other_interpolations_are_torchvisions(tmp_path: Path, name: str):
    """Pixels are those of torchvision's Resize with the filter of that name."""
    files = [save(tmp_path / "test" / label / "x.png", 20, 33) for label in "ab"]
    theirs = Compose([Resize(16, InterpolationMode(name)), CenterCrop(12), PILToTensor()])
    expected = torch.stack([theirs(Image.open(file)) for file in files])
    data = load_dataset(f"image-folder:{tmp_path}", resize=16, crop=12, interpolation=name)
    assert data.images.equal(expected)


def test_squeezing_is_another_thing(tmp_path: Path):
    """A wide image keeps its centre under crop, and all of it under image_size."""
    pixels = np.zeros((32, 64), np.uint8)
    pixels[:, 16:48] = 255
    for label in "ab":
        (tmp_path / "test" / label).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "test" / label / "x.png")
    assert load_dataset(f"image-folder:{tmp_path}", resize=32, crop=32).images.unique().tolist() == [255]
    assert load_dataset(f"image-folder:{tmp_path}", image_size=32).images[0, 0, 0, 0] == 0


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("", {"crop": 9}, "x.png: 4x5 pixels are fewer than `crop` 9x9 takes; give `resize`"),
        ("", {"crop": 0}, "`crop` must be at least 1, not 0"),
        ("", {"resize": -3}, "`resize` must be at least 1, not -3"),
        ("", {"image_size": 4, "crop": 3}, "`image_size` does not keep proportions; give it, or `resize`"),
        ("", {"crop": 3, "interpolation": "bicubic"}, "`interpolation` is of `resize` and `image_size`"),
        (
            "",
            {"resize": 3, "interpolation": "cubic"},
            "unknown interpolation 'cubic'; did you mean 'bicubic'?",
        ),
        ("digits", {"resize": 8}, "`resize` is for image-folder:PATH and huggingface:PATH"),
        ("digits", {"class_order": "text"}, "`class_order` is for image-folder:PATH"),
        ("", {"class_order": "numeric"}, "class 'a' is not a number"),
        ("", {"class_order": "nowhere.txt"}, "cannot read nowhere.txt"),
    ],
)
def test_each_fault_is_one_line(tmp_path: Path, name: str, options: dict[str, object], words: str):
    """Sizes and orders that cannot be had are told in one line."""
    for label in "ab":
        save(tmp_path / "test" / label / "x.png")
    with pytest.raises(BenchError) as caught:
        load_dataset(name or f"image-folder:{tmp_path}", **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Twelve classes called 0 to 11, whose image has ten times their number as its value."""
    for number in range(12):
        save(tmp_path / "test" / str(number) / "x.png", value=10 * number)
    return tmp_path


def test_numbers_are_labels(numbered: Path):
    """Folders 0 to 11 are the labels 0 to 11, where text order would put 10 third; a warning says so."""
    with pytest.warns(BenchWarning, match=r"labels in that order: 0, 1, 2.*text, where '10' is third"):
        data = load_dataset(f"image-folder:{numbered}")
    assert data.images[:, 0, 0, 0].tolist() == [10 * label for label in range(12)]
    assert data.class_names[10] == "10"


@pytest.mark.parametrize("order", ["numeric", "text"])
def test_an_order_that_is_asked_for_says_nothing(numbered: Path, order: str):
    """`class_order` takes either, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = load_dataset(f"image-folder:{numbered}", class_order=order).class_names
    assert names[:3] == (("0", "1", "2") if order == "numeric" else ("0", "1", "10"))


def test_numbers_in_one_order_say_nothing(tmp_path: Path):
    """00 to 11, and 0 to 9, are the same as numbers and as text."""
    for number in range(12):
        save(tmp_path / "test" / f"{number:02d}" / "x.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_dataset(f"image-folder:{tmp_path}").class_names[2] == "02"


def test_a_file_gives_the_order(tmp_path: Path):
    """Lines of a file are the labels; a class without a folder keeps its place."""
    for label in ("cat", "ant"):
        save(tmp_path / "test" / label / "x.png", value=len(label) if label == "cat" else 9)
    order = tmp_path / "order.txt"
    order.write_text("dog\ncat\nbee\nant\n")
    data = load_dataset(f"image-folder:{tmp_path}", class_order=str(order))
    assert (data.class_names, data.labels.tolist()) == (("dog", "cat", "bee", "ant"), [1, 3])
    assert data.images[:, 0, 0, 0].tolist() == [3, 9]
    for text, words in (("cat\n", "has no class 'ant'"), ("ant\ncat\nant\n", "line 3: class 'ant' is there")):
        order.write_text(text)
        with pytest.raises(BenchError, match=words):
            load_dataset(f"image-folder:{tmp_path}", class_order=str(order))


@pytest.mark.parametrize("empty_test", [False, True])
def test_val_is_the_test_split_of_imagenet(tmp_path: Path, empty_test: bool):
    """Without classes in test, as in ImageNet's folders, val is taken, and a warning says so."""
    for split in ("train", "val"):
        for label in "ab":
            save(tmp_path / split / label / "x.png", value=7 if split == "val" else 8)
    if empty_test:
        save(tmp_path / "test" / "x.png")
    with pytest.warns(BenchWarning, match="val is taken for the test split"):
        data = load_dataset(f"image-folder:{tmp_path}")
    assert data.images.unique().tolist() == [7]
    assert data.split == "test"
