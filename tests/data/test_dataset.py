"""A split keeps its ids and its fingerprint, and gives the same subset to everybody."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.data.dataset import fingerprint_of
from robustbench_sde.errors import BenchError


def make(count: int = 50) -> ImageDataset:
    images = torch.arange(count * 12).remainder(256).to(torch.uint8).reshape(count, 3, 2, 2)
    return ImageDataset.whole("toy", "test", images, torch.arange(count) % 2, ["a", "b"])


def test_shape_and_classes():
    """Length, image shape and number of classes come from the tensors."""
    data = make()
    assert (len(data), data.image_shape, data.classes) == (50, (3, 2, 2), 2)
    assert data.ids.tolist() == list(range(50))


def test_to_float():
    """Pixels 0 and 255 become exactly 0 and 1, in float32."""
    floats = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert floats.dtype == torch.float32
    assert floats.tolist() == [0.0, pytest.approx(0.2), 1.0]


@given(small=st.integers(1, 50), large=st.integers(1, 50))
def test_subsets_are_nested(small: int, large: int):
    """A smaller subset is contained in a larger one, and is the same when taken from it."""
    small, large = sorted((small, large))
    data = make()
    inner, outer = data.subset(small), data.subset(large)
    assert set(inner.ids.tolist()) <= set(outer.ids.tolist())
    assert outer.subset(small).ids.equal(inner.ids)


def test_subset_is_pinned_and_sorted():
    """The fixed order never changes, and a subset is sorted by id."""
    assert make().subset(8).ids.tolist() == [5, 17, 19, 24, 29, 35, 37, 38]


def test_subset_leaves_global_generators_alone():
    """No global random state is read or moved."""
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make().subset(10)
    assert torch.get_rng_state().equal(before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_subset_keeps_rows_and_fingerprint():
    """Images and labels of a subset are those of its ids; the fingerprint stays that of the split."""
    data = make()
    part = data.subset(10)
    assert part.images.equal(data.images[part.ids])
    assert part.labels.equal(data.labels[part.ids])
    assert part.fingerprint == data.fingerprint


def test_select_keeps_the_order_given():
    """Ids, not positions, are selected, in the order asked for, also from a subset."""
    part = make().subset(10)
    wanted = part.ids.flip(0)
    assert part.select(wanted).ids.equal(wanted)
    assert part.select(wanted).images.equal(part.images.flip(0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda data: data.subset(0), "at least 1"),
        (lambda data: data.subset(51), "has 50 in test"),
        (lambda data: data.select([3, 99]), "no test image with id 99"),
        (lambda data: data.select([3, 3]), "different from one another"),
        (lambda data: data.select([]), "no image"),
        (lambda data: replace(data, labels=data.labels + 1), "label 2 is out of range for 2 classes"),
        (lambda data: replace(data, labels=data.labels - 1), "label -1 is out of range"),
        (lambda data: replace(data, labels=data.labels[:-1]), "labels must be int64 (50,)"),
        (lambda data: replace(data, ids=data.ids.int()), "ids must be int64"),
        (lambda data: replace(data, images=to_float(data.images)), "must be uint8"),
        (lambda data: replace(data, labels=data.labels * 0, class_names=("a",)), "at least 2 classes"),
    ],
)
def test_errors_are_one_line(call, words):
    """Whatever does not fit together is said in one line."""
    with pytest.raises(BenchError) as caught:
        call(make())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fingerprint_sees_pixels_labels_and_shape():
    """A changed pixel, label or shape changes the fingerprint; memory layout does not."""
    data = make()
    same = data.images.contiguous(memory_format=torch.channels_last)
    assert fingerprint_of(same, data.labels) == data.fingerprint
    others = [
        (data.images.bitwise_xor(1), data.labels),
        (data.images, 1 - data.labels),
        (data.images.reshape(50, 3, 4, 1), data.labels),
    ]
    assert data.fingerprint not in [fingerprint_of(*other) for other in others]
