"""Tiny-ImageNet in its own layout: order, labels, faults, and its corrupted sibling."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_sde.data import load_dataset
from robustbench_sde.data.official import open_official
from robustbench_sde.errors import BenchError
from robustbench_sde.perturbations.corruptions import stored_corruptions

WNIDS = ("n02", "n10", "n01")  # as in the file: not sorted
#: file of val/images: its class
VAL = {
    "val_0.JPEG": "n10",
    "val_1.JPEG": "n01",
    "val_2.JPEG": "n10",
    "val_10.JPEG": "n10",
    "val_3.JPEG": "n02",
}
REAL = Path("~/.cache/sde-bench-data/tiny-imagenet-200").expanduser()


def save(path, value):
    """A coloured 16x16 image whose red is `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0] = value
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "tiny"
    for place, wnid in enumerate(WNIDS):
        for image in range(2):
            save(root / "train" / wnid / "images" / f"{wnid}_{image}.JPEG", 40 * place + 10 * image)
    for place, name in enumerate(VAL):
        save(root / "val" / "images" / name, 50 * place)
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))
    (root / "words.txt").write_text("n01\ttench, Tinca tinca\nn02\toboe\nn10\tbell pepper\nn99\tother\n")
    lines = (f"{name}\t{wnid}\t0\t0\t15\t15\n" for name, wnid in VAL.items())
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def reds(data):
    return [round(value / 10) * 10 for value in data.images[:, 0].float().mean((1, 2)).tolist()]


def test_labels_are_sorted_wnids_and_ids_sorted_files(root):
    """The order of torchvision's ImageFolder for training, of Tiny-ImageNet-C for test."""
    train, test = (load_dataset(f"tiny-imagenet:{root}", split=split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("tench", "oboe", "bell pepper")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert reds(train) == [80, 90, 0, 10, 40, 50]
    assert test.labels.tolist() == [0, 1, 2, 2, 2]
    assert reds(test) == [50, 200, 0, 150, 100]  # val_0, val_10, val_2: as text
    assert (train.name, test.split, test.image_shape) == ("tiny-imagenet", "test", (3, 16, 16))


def test_tiny_imagenet_c_pairs_with_it(root, tmp_path):
    """Corrupted images have the ids of their originals, and another set is refused."""
    folder = tmp_path / "c" / "fog" / "1"
    for name, wnid in VAL.items():
        save(folder / wnid / name, 5 * list(VAL).index(name))
    test, official = load_dataset(f"tiny-imagenet:{root}"), f"tiny-imagenet-c:{tmp_path / 'c'}"
    (stored,) = stored_corruptions(open_official(official), test, "fog", [1])
    means = stored.source.images("fog", 1, test.ids)[:, 0].float().mean((1, 2))
    assert [round(value / 5) * 50 for value in means.tolist()] == reds(test)
    (folder / "n10" / "val_2.JPEG").rename(folder / "n01" / "val_2.JPEG")
    with pytest.raises(BenchError, match=r"image 1 has label 0, in tiny-imagenet it has 1"):
        stored_corruptions(open_official(official), test, "fog", [1])


def edit(name, old, new):
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new))


NOTES = "val/val_annotations.txt"
FAULTS = [
    ("test", lambda root: (root / "wnids.txt").unlink(), "cannot read .*wnids.txt"),
    ("test", edit("wnids.txt", "n10", "n02"), "wnids.txt, line 2: n02 is there already, in line 1"),
    ("test", edit("wnids.txt", "n10", "../x"), "wnids.txt, line 2: '../x' is not a wnid"),
    ("test", edit("words.txt", "n10\t", "n11\t"), "words.txt has no words for n10"),
    ("train", lambda root: shutil.rmtree(root / "train"), "no folder .*train; "),
    ("train", lambda root: shutil.rmtree(root / "train" / "n10"), "n10 is in wnids.txt and has no folder"),
    ("train", lambda root: (root / "train" / "n77").mkdir(), "n77 is in .* and not in wnids.txt"),
    ("train", lambda root: (root / "train/n10/images").rename(root / "train/n10/pics"), "no folder .*images"),
    ("test", lambda root: (root / NOTES).unlink(), "cannot read .*val_annotations.txt"),
    ("test", lambda root: (root / NOTES).write_bytes(b"\xff\xfe\n"), "it is not text"),
    ("test", edit(NOTES, "val_1.JPEG\tn01", "val_1.JPEG n01"), "val_annotations.txt, line 2: class '0'"),
    ("test", edit(NOTES, "val_1.JPEG\tn01\t0\t0\t15\t15", "val_1.JPEG"), "line 2: it must be a file name"),
    ("test", edit(NOTES, "\tn01", "\tn55"), "line 2: class 'n55' of val_1.JPEG is not in wnids.txt"),
    ("test", edit(NOTES, "val_1.JPEG", "../../x.JPEG"), "line 2: ../../x.JPEG is not in"),
    ("test", edit(NOTES, "val_1.JPEG", "val_0.JPEG"), "line 2: val_0.JPEG .* twice"),
    ("test", lambda root: save(root / "val/images/val_9.JPEG", 0), "gives no class for val_9.JPEG"),
    ("test", lambda root: shutil.rmtree(root / "val" / "images"), "line 1: val_0.JPEG is not in"),
    ("test", lambda root: (root / "val/images/val_0.JPEG").write_bytes(b"x"), "cannot read image .*val_0"),
]  # fmt: skip


@pytest.mark.parametrize(("split", "fault", "message"), FAULTS, ids=[message for *_, message in FAULTS])
def test_each_fault_is_one_line(root, split, fault, message):
    """It names the file, and the line where there is one."""
    fault(root)
    with pytest.raises(BenchError, match=message) as caught:
        load_dataset(f"tiny-imagenet:{root}", split=split)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs Tiny-ImageNet images")
def test_real_images_load():
    """A sample of the published files."""
    test = load_dataset(f"tiny-imagenet:{REAL}")
    assert test.image_shape == (3, 64, 64)
    assert test.classes == len(set(test.labels.tolist()))
