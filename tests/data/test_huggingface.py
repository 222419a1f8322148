"""Folders that the `datasets` library has written, and what is wrong with others."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
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
        (table(image=OUTSIDE, label=LABELS), "has only the paths of some images"),
        (table(image=BYTES, label=[0, 1, None, 0, 1, 2]), "rows without a label"),
        (table(image=BYTES, label=[0, 1, -1, 0, 1, 2]), "label -1 is out of range"),
        (table(image=BYTES, label=list("012012")), "cannot read"),
        (table(image=BYTES[:0], label=pa.array([], pa.int64())), "has no rows"),
        (table(image=[{"bytes": b"no image"}] * 2, label=[0, 1]), "row 0: cannot identify image"),
    ],
)
def test_each_fault_is_one_line(tmp_path: Path, content: pa.Table, words: str):
    """What is wrong with a table is said with its file."""
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
