"""Published sets of corrupted images, on small fakes of their layouts."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import make_data, make_model
from PIL import Image

from robustbench_sde.data import ImageDataset, load_dataset, to_float
from robustbench_sde.data.official import open_official
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.corruptions import stored_corruptions

COUNT = 6


def clean(shape=(3, 12, 12), classes=10) -> ImageDataset:
    return make_data(COUNT, shape, classes)


def save_cifar(folder: Path, data: ImageDataset) -> Path:
    """Severity s of `fog` is the image less s; `snow` is zero."""
    folder.mkdir()
    pixels = data.images.permute(0, 2, 3, 1).numpy().astype(int)
    darker = [np.clip(pixels - severity, 0, 255) for severity in range(1, 6)]
    np.save(folder / "fog.npy", np.concatenate(darker).astype(np.uint8))
    np.save(folder / "snow.npy", np.zeros((5 * COUNT, *pixels.shape[1:]), np.uint8))
    np.save(folder / "labels.npy", np.tile(data.labels.numpy(), 5).astype(np.uint8))
    return folder


def colour_model(**changes):
    return make_model(channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, classes=10, **changes)


@pytest.mark.parametrize("name", ["cifar10-c", "cifar100-c"])
def test_severities_of_cifar_c_follow_each_other(tmp_path, name):
    """Severity s is the s-th fifth of the file, paired with the clean images by id, also in a subset."""
    data = clean()
    official = open_official(f"{name}:{save_cifar(tmp_path / 'c', data)}")
    assert official.corruptions == ("fog", "snow")
    part = data.select([4, 1])
    for severity in (1, 5):
        (stored,) = stored_corruptions(official, part, "fog", [severity])
        expected = (part.images.int() - severity).clamp(0, 255)
        assert torch.equal(official.images("fog", severity, part.ids).int(), expected)
        result = evaluate(colour_model(), part, stored, ScoreSettings(draws=2))
        assert torch.equal(result.images, to_float(expected.to(torch.uint8)))
        assert (result.row["perturbation"], result.row["severity"]) == ("fog", float(severity))


def test_other_pixels_are_other_work(tmp_path):
    """The fingerprint of the images used is in the repr, which is hashed into the cell; the path is not."""
    data = clean()
    first = save_cifar(tmp_path / "a", data)
    second = save_cifar(tmp_path / "b", data)

    def text():
        return [
            repr(stored_corruptions(open_official(f"cifar10-c:{folder}"), data, "fog", [1])[0])
            for folder in (first, second)
        ]

    same = text()
    assert same[0] == same[1]
    changed = np.load(second / "fog.npy") ^ 1
    np.save(second / "fog.npy", changed)
    assert text()[1] != same[1]


def test_names_stand_for_what_is_there(tmp_path):
    """`all` is every file; of a group those that are there are taken, and a warning names the others."""
    official = open_official(f"cifar10-c:{save_cifar(tmp_path / 'c', clean())}")
    made = stored_corruptions(official, clean(), "all", [1, 2])
    assert [(m.corruption, m.severity) for m in made] == [("fog", 1), ("fog", 2), ("snow", 1), ("snow", 2)]
    with pytest.warns(BenchWarning, match="has no frost, brightness, spatter: the others of 'weather'"):
        made = stored_corruptions(official, clean(), "weather", [1])
    assert [one.corruption for one in made] == ["snow", "fog"]
    with pytest.raises(BenchError, match="has none of 'blur'; `corruptions` takes what it has: fog, snow"):
        stored_corruptions(official, clean(), "blur", [1])
    with pytest.raises(BenchError, match="has no 'frost'; `corruptions` takes what it has: fog, snow"):
        stored_corruptions(official, clean(), "frost", [1])


def test_mnist_c_has_no_severities(tmp_path):
    """One cell per corruption, whatever severities are asked for; `benchmark` is all of it."""
    data = clean((1, 12, 12))
    for name in ("zigzag", "fog", "identity"):
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / "test_images.npy", data.images.permute(0, 2, 3, 1).numpy())
        np.save(folder / "test_labels.npy", data.labels.numpy())
    official = open_official(f"mnist-c:{tmp_path}")
    made = stored_corruptions(official, data, "benchmark", [1, 2, 3])
    assert [(m.corruption, m.severity) for m in made] == [("fog", None), ("zigzag", None)]
    assert torch.equal(official.images("zigzag", None, data.ids), data.images)


def test_tiny_imagenet_c_is_folders(tmp_path):
    """Ids count the files of sorted class folders, as in an image folder."""
    names, labels = ("n01", "n02"), [0, 0, 1]
    for severity in (1, 2):
        for index, label in enumerate(labels):
            path = tmp_path / "fog" / str(severity) / names[label] / f"val_{index}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 12), (severity * 20, index * 20, 0)).save(path)
    images = torch.zeros(3, 3, 12, 12, dtype=torch.uint8)
    data = ImageDataset.whole("tiny", "test", images, torch.tensor(labels), names)
    official = open_official(f"tiny-imagenet-c:{tmp_path}")
    (stored,) = stored_corruptions(official, data, "fog", [2])
    pixels = stored.source.images("fog", 2, torch.tensor([2, 0]))
    assert pixels.shape == (2, 3, 12, 12)
    assert abs(int(pixels[0, 1].float().mean()) - 40) < 5
    with pytest.raises(BenchError, match="3 does not exist"):
        stored_corruptions(official, data, "fog", [3])


@pytest.mark.parametrize("name", ["tiny-imagenet-c", "imagenet-c"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_files_among_colour_ones(tmp_path, name, channels):
    """A batch of grey files, whichever it is, has as many channels as the clean images."""
    for index in range(2):
        path = tmp_path / "fog" / "1" / f"n0{index}" / "x.JPEG"
        path.parent.mkdir(parents=True)
        Image.new("L", (12, 12), 50 + index).save(path)
    images = torch.zeros(2, channels, 12, 12, dtype=torch.uint8)
    data = ImageDataset.whole("own", "test", images, torch.tensor([0, 1]), ("n00", "n01"))
    (stored,) = stored_corruptions(open_official(f"{name}:{tmp_path}"), data, "fog", [1])
    assert stored.source.images("fog", 1, torch.tensor([1])).shape == (1, channels, 12, 12)


def test_numbered_classes_pair_with_their_image_folder(tmp_path):
    """Folders 0 to 10 have the labels of a clean image folder of the same names."""
    for number in range(11):
        for folder in (tmp_path / "c" / "fog" / "1", tmp_path / "clean" / "test"):
            path = folder / str(number) / "x.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (12, 12), (number, 0, 0)).save(path)
    with pytest.warns(BenchWarning, match="numbers"):
        data = load_dataset(f"image-folder:{tmp_path / 'clean'}")
    (stored,) = stored_corruptions(open_official(f"imagenet-c:{tmp_path / 'c'}"), data, "fog", [1])
    assert stored.source.images("fog", 1, data.ids)[:, 0, 0, 0].tolist() == list(range(11))


def test_imagenet_c_pairs_with_cropped_images_of_some_classes(tmp_path):
    """Images of 24x24 belong to clean ones cropped to that; labels are places in a list of classes."""
    order = tmp_path / "order.txt"
    order.write_text("dog\ncat\nbee\nant\n")
    for value, label in enumerate(("ant", "cat"), start=1):
        for folder, size in (
            (tmp_path / "c" / "fog" / "1", (24, 24)),
            (tmp_path / "clean" / "val", (40, 30)),
        ):
            path = folder / label / "x.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", size, (value, 0, 0)).save(path)
    name, how = f"image-folder:{tmp_path / 'clean'}", {"resize": 26, "class_order": str(order)}
    with pytest.warns(BenchWarning, match="val is taken"):
        data = load_dataset(name, crop=24, **how)
    with pytest.warns(BenchWarning, match="val is taken"):
        other = load_dataset(name, crop=20, **how)
    official = open_official(f"imagenet-c:{tmp_path / 'c'}")
    (stored,) = stored_corruptions(official, data, "fog", [1])
    assert data.labels.tolist() == [1, 3]
    assert stored.source.images("fog", 1, data.ids)[:, 0, 0, 0].tolist() == [2, 1]
    with pytest.raises(BenchError, match="`crop` 24 after `resize` gives the clean images this size"):
        stored_corruptions(official, other, "fog", [1])


def test_cifar10_p_is_known_by_its_frames(tmp_path):
    """A folder of CIFAR-10-P, which has a label for each image, is refused for what it is."""
    data = clean()
    np.save(tmp_path / "fog.npy", np.zeros((len(data), 31, 12, 12, 3), np.uint8))
    np.save(tmp_path / "labels.npy", data.labels.numpy()[: len(data) // 5 * 5])
    with pytest.raises(BenchError, match="are sequences of frames, as in CIFAR-10-P: not supported"):
        stored_corruptions(open_official(f"cifar10-c:{tmp_path}"), data, "fog", [1])


def truncated(folder):
    (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:-100])


def pickled(folder):
    np.save(folder / "fog.npy", np.array([{}], dtype=object), allow_pickle=True)


def sequences(folder):
    np.save(folder / "fog.npy", np.zeros((6, 5, 12, 12, 3), np.uint8))


DAMAGE = [
    (sequences, "sequences of frames, as in CIFAR-10-P: not supported"),
    (lambda folder: (folder / "labels.npy").unlink(), "labels.npy does not exist"),
    (truncated, "fog.npy is not a whole .npy file"),
    (pickled, "fog.npy is not a whole .npy file"),
    (lambda folder: (folder / "fog.npy").write_bytes(b""), "fog.npy is not a whole .npy file"),
    (lambda folder: np.save(folder / "fog.npy", np.zeros((30, 12, 12, 3))), "must be uint8"),
    (lambda folder: np.save(folder / "fog.npy", np.zeros((30, 12, 12), np.uint8)), "must be uint8"),
    (lambda folder: np.save(folder / "fog.npy", np.zeros((29, 12, 12, 3), np.uint8)), "29 images for 30"),
    (lambda folder: np.save(folder / "fog.npy", np.zeros((30, 9, 9, 3), np.uint8)), r"\(3, 9, 9\)"),
    (lambda folder: np.save(folder / "labels.npy", np.zeros(30)), "must be whole numbers"),
    (lambda folder: np.save(folder / "labels.npy", np.full(30, 10)), "label 10 is out of range"),
    (lambda folder: np.save(folder / "labels.npy", np.full(30, -1)), "label -1 is out of range"),
    (lambda folder: np.save(folder / "labels.npy", np.zeros(29, int)), "5 severities"),
    (lambda folder: np.save(folder / "labels.npy", np.full(30, 9)), "clean split"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_a_damaged_set_is_one_sentence(tmp_path, damage, message):
    """Files that are missing, cut, pickled, or of the wrong shape, type, length or labels."""
    data = clean()
    data = dataclasses.replace(data, labels=torch.arange(COUNT))
    folder = save_cifar(tmp_path / "c", data)
    damage(folder)
    with pytest.raises(BenchError, match=message) as caught:
        stored_corruptions(open_official(f"cifar10-c:{folder}"), data, "fog", [1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cifar10-p:.", "cifar10-p holds sequences of frames.*cifar10-c"),
        ("cifar-c:.", "did you mean 'cifar10-c'"),
        ("cifar10-c:nowhere", "no such folder"),
        ("mnist-c", "DIR"),
    ],
)
def test_wrong_names_are_one_sentence(text, message):
    """Unknown sets and folders."""
    with pytest.raises(BenchError, match=message):
        open_official(text)


def test_an_empty_folder_says_its_layout(tmp_path):
    """A folder without corruptions."""
    with pytest.raises(BenchError, match=r"holds no corruption of mnist-c.*test_images.npy"):
        open_official(f"mnist-c:{tmp_path}")


def test_a_corrupted_set_is_not_a_data_set(tmp_path):
    """A corrupted set as --dataset is refused, with the command that takes it."""
    with pytest.raises(BenchError, match="score it with `official`"):
        load_dataset(f"cifar10-c:{tmp_path}")


def test_cifar10_1_prefers_v6(tmp_path):
    """v4 is read where v6 is missing; there is no training split."""
    pixels = np.zeros((COUNT, 32, 32, 3), np.uint8)
    for version in ("v4", "v6"):
        np.save(tmp_path / f"cifar10.1_{version}_data.npy", pixels)
        np.save(tmp_path / f"cifar10.1_{version}_labels.npy", np.arange(COUNT))
        data = load_dataset(f"cifar10.1:{tmp_path}")
        assert data.name == f"cifar10.1-{version}"
        assert data.image_shape == (3, 32, 32)
        assert data.class_names[0] == "airplane"
    with pytest.raises(BenchError, match="test split only"):
        load_dataset(f"cifar10.1:{tmp_path}", split="train")
    (tmp_path / "cifar10.1_v6_labels.npy").unlink()
    with pytest.raises(BenchError, match=r"labels.npy does not exist"):
        load_dataset(f"cifar10.1:{tmp_path}")
