"""Archives of arrays: layouts, types, splits, and what is wrong with them."""

import io
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from robustbench_sde.data import ImageDataset, load_dataset, npz
from robustbench_sde.errors import BenchError, BenchWarning

RANDOM = np.random.Generator(np.random.Philox(0))
#: 6 images of 5x4 (height x width) with 3 channels, (n, H, W, C)
PIXELS = RANDOM.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def save(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def load(path: Path, **options) -> ImageDataset:
    return load_dataset(f"npz:{path}", **options)


def message(path: Path, **options) -> str:
    with pytest.raises(BenchError) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("layout", ["last", "first"])
def test_every_layout_and_type_gives_the_same_images(tmp_path: Path, dtype: str, layout: str):
    """Channels may come first or last, values as bytes or as floats of k/255; nothing is warned of."""
    x = PIXELS if layout == "last" else PIXELS.transpose(0, 3, 1, 2)
    values = x if dtype == "u1" else (x / 255).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load(save(tmp_path, x=values, y=LABELS))
    assert (data.images.numpy() == PIXELS.transpose(0, 3, 1, 2)).all()
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.name, data.class_names) == ("npz:own", ("0", "1", "2"))


def test_grey_images(tmp_path: Path):
    """(n, H, W) has one channel."""
    data = load(save(tmp_path, x=PIXELS[..., 0], y=LABELS))
    assert (data.images[:, 0].numpy() == PIXELS[..., 0]).all()


@pytest.mark.parametrize(
    "y", [LABELS[:, None], LABELS.astype("f4"), LABELS.astype("u1"), LABELS.astype(">i8")]
)
def test_labels_of_every_kind(tmp_path: Path, y):
    """Columns, bytes and whole floats are labels."""
    assert load(save(tmp_path, x=PIXELS, y=y)).labels.tolist() == LABELS.tolist()


def test_one_hot_labels(tmp_path: Path):
    """Rows of one 1 and else 0 are the places of the ones; a class without an image counts."""
    data = load(save(tmp_path, x=PIXELS, y=np.eye(4, dtype="f4")[LABELS]))
    assert (data.labels.tolist(), data.classes) == (LABELS.tolist(), 4)


@pytest.mark.parametrize("colour", [True, False])
def test_medmnist_as_it_comes(tmp_path: Path, colour: bool):
    """The six arrays of MedMNIST, labels of shape (n, 1), are the splits; validation is in neither."""
    x = PIXELS if colour else PIXELS[..., 0]
    arrays = {}
    for split, rows in (("train", slice(0, 3)), ("val", slice(3, 4)), ("test", slice(4, 6))):
        arrays |= {f"{split}_images": x[rows], f"{split}_labels": LABELS[rows, None].astype("u1")}
    path = save(tmp_path, **arrays)
    test, train = load(path), load(path, split="train")
    assert (len(test), len(train), test.classes, test.labels.tolist()) == (2, 3, 3, [1, 2])
    assert (test.images[:, 0].numpy() == (x[4:, ..., 0] if colour else x[4:])).all()


def test_arrays_that_are_not_needed_are_not_looked_at(tmp_path: Path):
    """Python objects and Fortran order beside x and y do not matter."""
    path = save(tmp_path, x=PIXELS, y=LABELS, meta=objects(), other=np.asfortranarray(PIXELS))
    assert load(path).labels.tolist() == LABELS.tolist()


def test_splits(tmp_path: Path):
    """x_test is the test split and x_train the training split; classes are those of both."""
    path = save(tmp_path, x_train=PIXELS[:4], y_train=LABELS[:4], x_test=PIXELS[4:], y_test=np.array([1, 0]))
    test, train = load(path), load(path, split="train")
    assert (len(test), len(train), test.classes, train.classes) == (2, 4, 3, 3)
    assert "has no x_train; it holds x, y" in message(save(tmp_path, x=PIXELS, y=LABELS), split="train")


def test_class_names(tmp_path: Path):
    """`class_names` names the classes, also those without an image."""
    path = save(tmp_path, x=PIXELS, y=LABELS, class_names=["ant", "bee", "cat", "dog"])
    assert load(path).class_names == ("ant", "bee", "cat", "dog")
    assert "label 2 is out of range" in message(save(tmp_path, x=PIXELS, y=LABELS, class_names=["a", "b"]))
    assert "names are strings" in message(save(tmp_path, x=PIXELS, y=LABELS, class_names=LABELS))


def test_floats_between_levels_are_rounded_and_said(tmp_path: Path):
    """Floats that 8 bits cannot hold are rounded to the nearest level, and a warning says so."""
    path = save(tmp_path, x=PIXELS / 255 * 0.9, y=LABELS)
    with pytest.warns(BenchWarning, match="own.npz: x: floats between the 256 levels"):
        data = load(path)
    assert (
        np.abs(data.images.numpy() / 255 - PIXELS.transpose(0, 3, 1, 2) / 255 * 0.9).max() <= 0.5 / 255 + 1e-9
    )


def test_pieces_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Images read in several pieces are those read at once."""
    whole = load(save(tmp_path, x=PIXELS, y=LABELS))
    monkeypatch.setattr(npz, "_PIECE", 100)
    assert load(tmp_path / "own.npz").fingerprint == whole.fingerprint


def test_memory_is_that_of_the_images_and_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """64 MiB of compressed doubles become 8 MiB of bytes without ever being there as a whole."""
    np.savez_compressed(tmp_path / "own.npz", x=np.zeros((2048, 64, 64), "f8"), y=np.arange(2048) % 2)
    monkeypatch.setattr(npz, "_PIECE", 1 << 20)
    tracemalloc.start()
    load(tmp_path / "own.npz")
    _, peak = tracemalloc.get_traced_memory()  # numpy's; the tensor itself is not traced
    tracemalloc.stop()
    assert peak < 8 << 20


def objects() -> np.ndarray:
    """An array that numpy would have to unpickle."""
    return np.array([len] * 6, dtype=object)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": LABELS}, "has no x_test; it holds y, and the test split is x and y, or x_test and y_test"),
        ({"x": PIXELS}, "has no y; it holds x"),
        ({"x": PIXELS, "y": LABELS[:4]}, "x has 6 images and y has 4 labels"),
        ({"x": PIXELS.astype("i8"), "y": LABELS}, "x is int64; images are uint8 in 0..255 or floats"),
        (
            {"x": PIXELS.astype("f4"), "y": LABELS},
            "they must be in [0, 1]: save 0..255 as uint8",
        ),
        ({"x": PIXELS / 127.5 - 1, "y": LABELS}, "they must be in [0, 1]: undo a normalisation"),
        ({"x": np.full((6, 5, 4), np.nan), "y": LABELS}, "floats from nan to nan"),
        (
            {"x": PIXELS[:, :3], "y": LABELS},
            "(6, 3, 4, 3), not (n, H, W, C), (n, C, H, W) or (n, H, W): it may",
        ),
        ({"x": PIXELS.repeat(2, 3), "y": LABELS}, "images have 1 or 3 channels"),
        ({"x": PIXELS.reshape(6, -1), "y": LABELS}, "x has shape (6, 60)"),
        ({"x": np.uint8(3), "y": LABELS}, "x has 0 images and y has 6 labels"),
        ({"x": PIXELS[:0], "y": LABELS[:0]}, "there is no image in it"),
        ({"x": np.asfortranarray(PIXELS), "y": LABELS}, "x is in Fortran order; save np.ascontiguousarray"),
        ({"x": objects(), "y": LABELS}, "x holds Python objects, which are not opened"),
        ({"x": PIXELS, "y": objects()}, "y holds Python objects"),
        (
            {"x": PIXELS, "y": np.tri(6, 3)},
            "y has shape (6, 3), and row 1 is no one-hot class (1, 1, 0): several labels an image",
        ),
        (
            {"test_images": PIXELS, "test_labels": np.zeros((6, 14), "u1")},
            "test_labels has shape (6, 14), and row 0 is no one-hot class (0, 0, 0, 0, 0, 0, 0, 0, ...)",
        ),
        ({"x": PIXELS, "y": LABELS, "class_names": objects()}, "save it as text: np.array(names, dtype=str)"),
        ({"x": PIXELS, "y": LABELS + 0.5}, "y has values that are not 0, 1, 2"),
        ({"x": PIXELS, "y": LABELS - 1}, "y has values that are not 0, 1, 2"),
        ({"x": PIXELS, "y": LABELS.astype(str)}, "y is <U21; labels are whole numbers"),
        ({"x": PIXELS, "y": LABELS * 0}, "at least 2 classes, this has 1"),
    ],
)
def test_each_fault_is_one_line(tmp_path: Path, arrays, words):
    """A fault of an array is told with the array's name."""
    assert words in message(save(tmp_path, **arrays))


def raw(header: bytes, data: bytes = b"") -> bytes:
    """An archive whose x has this .npy header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", header + data)
        archive.writestr("y.npy", npy(LABELS))
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


WHOLE = raw(npy(PIXELS))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a whole .npz archive"),
        (b"hello", "is not a whole .npz archive"),
        (npy(PIXELS), "is not a whole .npz archive"),
        (WHOLE[: len(WHOLE) // 2], "is not a whole .npz archive"),
        (WHOLE.replace(PIXELS[2].tobytes(), PIXELS[3].tobytes()), "Bad CRC-32"),
        (raw(npy(PIXELS)[:-9]), "it ends after 351 bytes of values"),
        (raw(b"\x93NUMPY\x09\x00"), "version"),
        (raw(b"no magic"), "magic string"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, content: bytes, words: str):
    """A file that is empty, cut, changed or something else is named."""
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    assert words in message(path)
    assert str(path) in message(path)


def test_a_claimed_size_is_not_believed(tmp_path: Path):
    """A header that claims more images than memory holds gives a sentence."""
    path = tmp_path / "own.npz"
    huge = npy(PIXELS).replace(b"(6, 5, 4, 3), }" + b" " * 12, b"(6, 5999999999, 999, 3), }"[:27].ljust(27))
    path.write_bytes(raw(huge))
    assert "do not fit into memory" in message(path)


def test_missing_file(tmp_path: Path):
    """The file is named."""
    assert "nothing.npz does not exist; npz:FILE is an .npz archive" in message(tmp_path / "nothing.npz")
