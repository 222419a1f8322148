"""Data sets by name, and what the user reads when a name or an option is wrong."""

import pytest

from robustbench_sde.data import DATASETS, load_dataset
from robustbench_sde.errors import BenchError


def test_names():
    """The data sets that the documentation promises."""
    names = "digits mnist fashion-mnist cifar10 cifar100 svhn stl10 image-folder huggingface npz cifar10.1"
    assert list(DATASETS) == [*names.split(), "tiny-imagenet"]


def test_images_takes_the_fixed_subset():
    """`images` is `subset`."""
    whole = load_dataset("digits")
    assert load_dataset("digits", images=20).ids.equal(whole.subset(20).ids)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("digit", {}, "unknown dataset 'digit'; did you mean 'digits'?"),
        ("cifar-10", {}, "did you mean 'cifar10'?"),
        ("image-foldr:/x", {}, "did you mean 'image-folder'?"),
        ("digits:x", {}, "did you mean 'digits'?"),
        ("", {}, "known: cifar10,"),
        ("image-folder", {}, "needs a path; write image-folder:PATH"),
        ("image-folder:", {}, "needs a path"),
        ("npz", {}, "needs a path; write npz:PATH"),
        ("digits", {"split": "tests"}, "unknown split 'tests'; did you mean 'test'?"),
        ("digits", {"images": 0}, "`images` must be at least 1, not 0"),
        ("digits", {"images": 361}, "361 images asked for; dataset 'digits' has 360 in test"),
        ("digits", {"image_size": 8}, "`image_size` is for image-folder:PATH"),
        ("image-folder:/nowhere", {"image_size": (0, 3)}, "`image_size` must be at least 1, not 0"),
    ],
)
def test_errors_are_one_line(name, options, words):
    """A wrong name or option is one line that says what to do."""
    with pytest.raises(BenchError) as caught:
        load_dataset(name, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
