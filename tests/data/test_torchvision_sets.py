"""The torchvision data sets, from tiny files in their raw formats."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision import datasets

from robustbench_sde.data import load_dataset
from robustbench_sde.errors import BenchError

LABELS = np.array([3, 0, 1, 2], dtype=np.uint8)


def noise(*shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(0)).integers(0, 256, shape, dtype=np.uint8)


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes())


def write_mnist(home: Path) -> np.ndarray:
    """Both splits in the format of MNIST; the pixels."""
    pixels = noise(4, 28, 28)
    for part in ("train", "t10k"):
        write_idx(home / f"{part}-images-idx3-ubyte", pixels)
        write_idx(home / f"{part}-labels-idx1-ubyte", LABELS)
    return pixels


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "home", "fourth"),
    [("mnist", "MNIST", "3"), ("fashion-mnist", "FashionMNIST", "Dress")],
)
def test_mnist_format(tmp_path: Path, name: str, home: str, fourth: str):
    """Greyscale images are (n, 1, 28, 28), found through data_dir."""
    pixels = write_mnist(tmp_path / home / "raw")
    data = load_dataset(name, data_dir=tmp_path)
    assert (data.images.numpy() == pixels[:, None]).all()
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.name, data.split, data.class_names[3]) == (name, "test", fourth)


def test_data_dir_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """$SDE_BENCH_DATA is used where data_dir is not given."""
    write_mnist(tmp_path / "MNIST" / "raw")
    monkeypatch.setenv("SDE_BENCH_DATA", str(tmp_path))
    assert len(load_dataset("mnist", split="train")) == 4


def test_cifar_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Batches of (3, 32, 32) planes keep their channels, rows and columns; names come from the files."""
    home = tmp_path / "cifar-10-batches-py"
    home.mkdir()
    pixels = noise(4, 3, 32, 32)
    batch = {"data": pixels.reshape(4, -1), "labels": LABELS.tolist()}
    names = [f"class {index}" for index in range(10)]
    (home / "batch").write_bytes(pickle.dumps(batch))
    (home / "meta").write_bytes(pickle.dumps({"label_names": names}))
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(datasets.CIFAR10, files, [["batch", md5(home / "batch")]])
    meta = {"filename": "meta", "key": "label_names", "md5": md5(home / "meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    data = load_dataset("cifar10", data_dir=tmp_path)
    assert (data.images.numpy() == pixels).all()
    assert data.class_names == tuple(names)
    (home / "batch").write_bytes(pickle.dumps(batch | {"labels": [0, 0, 0, 0]}))
    with pytest.raises(BenchError, match="damaged or incomplete"):
        load_dataset("cifar10", data_dir=tmp_path)


def test_svhn_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The label 10 of the files is the digit 0."""
    pixels = noise(4, 3, 32, 32)
    path = tmp_path / "test_32x32.mat"
    savemat(path, {"X": pixels.transpose(2, 3, 1, 0), "y": np.where(LABELS == 0, 10, LABELS)[:, None]})
    monkeypatch.setattr(datasets.SVHN, "split_list", {"test": ["", path.name, md5(path)], "train": []})
    data = load_dataset("svhn", data_dir=tmp_path)
    assert (data.images.numpy() == pixels).all()
    assert data.labels.tolist() == LABELS.tolist()


def test_stl10_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Images of 96x96 stored by columns come out by rows, labels count from 0."""
    home = tmp_path / "stl10_binary"
    home.mkdir()
    pixels = noise(4, 3, 96, 96)
    (home / "X").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())
    (home / "y").write_bytes((LABELS + 1).astype(np.uint8).tobytes())
    files = [[name, md5(home / name)] for name in "Xy"]
    monkeypatch.setattr(datasets.STL10, "train_list", files)
    monkeypatch.setattr(datasets.STL10, "test_list", files)
    data = load_dataset("stl10", data_dir=tmp_path)
    assert (data.images.numpy() == pixels).all()
    assert data.labels.tolist() == LABELS.tolist()
    assert data.class_names[0] == "airplane"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "stl10"])
def test_missing_files_say_how_to_get_them(tmp_path: Path, name: str):
    """Without files, one line names the folder and both ways out."""
    with pytest.raises(BenchError) as caught:
        load_dataset(name, data_dir=tmp_path)
    assert str(caught.value) == (
        f"dataset {name!r} is not in {tmp_path}; give `download` to fetch it, or its folder as `data_dir`"
    )


@pytest.mark.parametrize("keep", [0, 3, 10, 500])
def test_truncated_files(tmp_path: Path, keep: int):
    """A truncated file is one line that names the folder, wherever the cut is."""
    write_mnist(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BenchError) as caught:
        load_dataset("mnist", data_dir=tmp_path)
    assert f"{path.parent} are damaged or incomplete" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A download that fails is one line with the first line of the reason."""

    def fail(self):
        raise RuntimeError("Error downloading batch:\nTried a mirror")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(BenchError) as caught:
        load_dataset("cifar10", data_dir=tmp_path, download=True)
    assert "could not fetch dataset 'cifar10'" in str(caught.value)
    assert "(Error downloading batch:)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_downloads_do_not_write_to_standard_output(tmp_path: Path, monkeypatch, capsys):
    """Lines that torchvision prints while downloading go to standard error."""
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: print("downloading"))
    write_mnist(tmp_path / "MNIST" / "raw")
    load_dataset("mnist", data_dir=tmp_path, download=True)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "downloading\n")
