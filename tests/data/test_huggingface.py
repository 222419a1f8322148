"""Folders that the `datasets` library has written, and what is wrong with others."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from robustbench_sde.data import ImageDataset, huggingface, load_dataset
from robustbench_sde.errors import BenchError

#: written by datasets: `saved` by save_to_disk, the test split in two files; `hub` by to_parquet;
#: `expected.npz` is their test split
FIXTURES = Path(__file__).parent / "huggingface"


def load(root: Path, **options) -> ImageDataset:
    return load_dataset(f"huggingface:{root}", **options)


def message(root: Path, **options) -> str:
    with pytest.raises(BenchError) as caught:
        load(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A copy to be changed."""
    return shutil.copytree(FIXTURES / "saved", tmp_path / "saved")


@pytest.mark.parametrize("rows", [2, 1024])
@pytest.mark.parametrize("root", ["saved", "hub", "saved/test"])
def test_what_datasets_wrote(root: str, rows: int, monkeypatch: pytest.MonkeyPatch):
    """Pixels, labels and names are those that `datasets` had, from several files and in several pieces."""
    monkeypatch.setattr(huggingface, "_ROWS", rows)
    data = load(FIXTURES / root)
    expected = np.load(FIXTURES / "expected.npz")
    assert (data.images.numpy() == expected["x"].transpose(0, 3, 1, 2)).all()
    assert data.labels.tolist() == expected["y"].tolist()
    assert (data.name, data.class_names) == (f"huggingface:{Path(root).name}", ("ant", "bee", "cat"))


@pytest.mark.parametrize("root", ["saved", "hub"])
def test_training_split_and_resizing(root: str):
    """Both splits are found, and --image-size resizes."""
    assert load(FIXTURES / root, split="train", image_size=8).images.shape == (4, 3, 8, 8)


def test_plain_parquet(tmp_path: Path):
    """Parquet that `datasets` had no part in: labels are numbers in `label`, splits are folders."""
    source = parquet.read_table(FIXTURES / "hub/data/test-00000-of-00001.parquet").replace_schema_metadata()
    (tmp_path / "test").mkdir()
    parquet.write_table(source, tmp_path / "test" / "0000.parquet")
    assert load(tmp_path).class_names == ("0", "1", "2")


def test_missing_split_says_what_is_there(saved: Path):
    """The splits that are there are named."""
    shutil.rmtree(saved / "train")
    assert "has no train split; it holds test" in message(saved, split="train")
    assert "has no train split" in message(saved / "test", split="train")
    (saved / "empty").mkdir()
    assert "it holds no data set" in message(saved / "empty")
    assert "no folder" in message(saved / "nowhere")


def test_several_configurations(tmp_path: Path):
    """Files of one split in several folders are not mixed."""
    for name in ("one", "two"):
        shutil.copytree(FIXTURES / "hub/data", tmp_path / name)
    assert "name one of these folders" in message(tmp_path)
    assert len(load(tmp_path / "one")) == 6


def table(**columns) -> pa.Table:
    return pa.table(columns)


BYTES = parquet.read_table(FIXTURES / "hub/data/test-00000-of-00001.parquet").column("image")
OUTSIDE = pa.array([{"bytes": None, "path": "a.png"}] * 6, BYTES.type)
LABELS = [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (table(x=LABELS, label=LABELS), "no column of images; its columns are x, label"),
        (table(image=BYTES, depth=BYTES, label=LABELS), "several columns of images: image, depth"),
        (table(image=BYTES, fine=LABELS), "no column of class labels; its columns are image, fine"),
        (
            table(image=OUTSIDE, label=LABELS),
            "column 'image', row 0: there are no bytes of an image, at most its path",
        ),
        (table(image=BYTES, label=[0, 1, None, 0, 1, 2]), "column 'label', row 2: there is no label"),
        (table(image=BYTES, label=[0, 1, -1, 0, 1, 2]), "label -1 is out of range"),
        (
            table(image=BYTES, label=list("012012")),
            "column 'label', row 0: '0' is string; labels are whole numbers; in",
        ),
        (
            table(image=BYTES, label=[[0], [1], [0, 1], [], [0], [1]]),
            "is list<element: int64>; a classifier needs one",
        ),
        (table(image=[BYTES[0].as_py(), None], label=[0, 1]), "column 'image', row 1: there is no image"),
        (table(image=BYTES[:0], label=pa.array([], pa.int64())), "has no rows"),
        (table(image=[{"bytes": b"no image"}] * 2, label=[0, 1]), "row 0: cannot identify image"),
    ],
)
def test_each_fault_is_one_line(tmp_path: Path, content: pa.Table, words: str):
    """A fault of a table is told with its file, column and row."""
    parquet.write_table(content, tmp_path / "test.parquet")
    assert words in message(tmp_path)


@pytest.mark.parametrize("keep", [0, 40, 700])
@pytest.mark.parametrize(
    ("root", "name"),
    [("saved", "test/data-00000-of-00002.arrow"), ("hub", "data/test-00000-of-00001.parquet")],
)
def test_damaged_files_are_named(tmp_path: Path, root: str, name: str, keep: int):
    """A file that was cut short is one line that names it."""
    folder = shutil.copytree(FIXTURES / root, tmp_path / root)
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    assert f"cannot read {folder / name}" in message(folder)


def test_changed_bytes_are_an_error_or_other_pixels(saved: Path):
    """Whatever byte of an Arrow file is changed, the answer is a data set or one line, and no crash."""
    file = saved / "test" / "data-00000-of-00002.arrow"
    whole = file.read_bytes()
    for place in range(0, len(whole), 9):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xA5]) + whole[place + 1 :])
        with contextlib.suppress(BenchError):
            load(saved)


@pytest.mark.parametrize("state", ["", "[]", json.dumps({"_data_files": [{}]})])
def test_damaged_state_is_named(saved: Path, state: str):
    """A state.json that is none is named."""
    (saved / "test" / "state.json").write_text(state)
    assert f"cannot read {saved / 'test' / 'state.json'}" in message(saved)


def test_files_stay_in_their_folder(saved: Path):
    """A state.json cannot point outside of its folder."""
    (saved / "test" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "/etc/passwd"}]}))
    assert f"cannot read {saved / 'test' / 'passwd'}" in message(saved)


def encoded(pixels: np.ndarray, **options) -> dict[str, object]:
    """The struct of an image that `datasets` writes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if pixels.dtype == np.uint8 else "TIFF", **options)
    return {"bytes": file.getvalue(), "path": None}


def described(image: dict[str, object]) -> dict[bytes, bytes]:
    """The note on features that `datasets` keeps in a schema."""
    features = {"image": image | {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def test_orientation_is_applied_as_datasets_does(tmp_path: Path):
    """An image of 4x6 whose EXIF says that it lies on its side comes out as 6x4, turned clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    parquet.write_table(
        table(image=[encoded(pixels, exif=exif)] * 2, label=[0, 1]), tmp_path / "test.parquet"
    )
    data = load(tmp_path)
    assert data.image_shape == (3, 6, 4)
    assert (data.images[0].numpy() == np.rot90(pixels, -1).transpose(2, 0, 1)).all()


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), (None, 3)])
def test_the_mode_of_the_feature_is_applied(tmp_path: Path, mode: str | None, channels: int):
    """Image(mode="L") makes colours grey by Pillow's weights; without a mode they stay."""
    colours = np.full((4, 6, 3), (200, 100, 0), np.uint8)
    content = table(image=[encoded(colours)] * 2, label=[0, 1]).replace_schema_metadata(
        described({"mode": mode})
    )
    parquet.write_table(content, tmp_path / "test.parquet")
    data = load(tmp_path)
    assert data.image_shape[0] == channels
    assert int(data.images[0, 0, 0, 0]) == (118 if mode == "L" else 200)


@pytest.mark.parametrize(
    "name",
    ["test/part-0.parquet", "test/part.0.parquet", "test/data.parquet", "mnist_test.parquet",
     "test_0.parquet",      "data/test-00000-of-00001.parquet", "eval.parquet"],
)  # fmt: skip
def test_names_that_datasets_finds_are_found(tmp_path: Path, name: str):
    """A split is found by the words that `datasets` looks for; a training file beside it is not taken."""
    rows = table(image=BYTES, label=LABELS)
    for path in (
        tmp_path / "set" / name,
        tmp_path / "set" / name.replace("test", "train").replace("eval", "train"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(rows if path == tmp_path / "set" / name else rows.slice(0, 3), path)
    assert len(load(tmp_path / "set")) == 6
    assert len(load(tmp_path / "set", split="train")) == 3


def test_a_missing_shard_is_named(tmp_path: Path):
    """One of two numbered files alone is no whole split."""
    parquet.write_table(table(image=BYTES, label=LABELS), tmp_path / "test-00000-of-00002.parquet")
    assert f"{tmp_path / 'test-00001-of-00002.parquet'} is missing" in message(tmp_path)


def test_classes_without_names_are_counted_over_both_splits(tmp_path: Path):
    """A test split without the last class has as many classes as the training split."""
    for split, last in (("train", 3), ("test", 1)):
        parquet.write_table(table(image=BYTES, label=[0, 1, 0, 1, 0, last]), tmp_path / f"{split}.parquet")
    assert load(tmp_path).class_names == ("0", "1", "2", "3")


def test_a_class_label_goes_before_a_text_column_called_label(tmp_path: Path):
    """Names in `label` do not hide the class label beside them."""
    features = {"image": {"_type": "Image"}, "class": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}
    note = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    content = table(image=BYTES, label=list("abcabc"), **{"class": LABELS}).replace_schema_metadata(note)
    parquet.write_table(content, tmp_path / "test.parquet")
    assert load(tmp_path).labels.tolist() == LABELS
