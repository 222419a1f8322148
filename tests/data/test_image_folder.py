"""Folders of images: sizes, colours, order, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_sde.data import ImageDataset, dataset, decode, load_dataset
from robustbench_sde.errors import BenchError


def picture(path: Path, size: tuple[int, int] = (5, 4), mode: str = "RGB", value: int = 7) -> Path:
    """A file of one value; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two images of 4x5 (height x width) in each split."""
    for split in ("train", "test"):
        for index, name in enumerate(("b", "a", "b", "a")):
            picture(tmp_path / "pets" / split / name / f"{index}.png", value=index)
    return tmp_path / "pets"


def load(root: Path, **options) -> ImageDataset:
    return load_dataset(f"image-folder:{root}", **options)


def message(root: Path, **options) -> str:
    with pytest.raises(BenchError) as caught:
        load(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_order_and_names(root: Path):
    """Sorted classes give labels, sorted files ids, and the name has no path of this machine."""
    data = load(root)
    assert (data.name, data.split, data.class_names) == ("image-folder:pets", "test", ("a", "b"))
    assert data.image_shape == (3, 4, 5)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.images[:, 0, 0, 0].tolist() == [1, 3, 0, 2]


def test_pixels_are_those_of_the_file(root: Path):
    """Channels, rows and columns end up in their places."""
    pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "test" / "a" / "0.png")
    assert (load(root).images[0].numpy() == pixels.transpose(2, 0, 1)).all()


def test_many_files_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Chunks read by different threads land where they belong."""
    monkeypatch.setattr(decode, "_CHUNK", 3)
    for index in range(40):
        picture(tmp_path / "test" / "ab"[index // 20] / f"{index:02d}.png", value=index)
    assert load(tmp_path).images[:, 0, 0, 0].tolist() == list(range(40))


def test_all_greyscale_stays_one_channel(tmp_path: Path):
    """One channel when every image is greyscale."""
    for name in "ab":
        picture(tmp_path / "test" / name / "0.png", mode="L", value=9)
    data = load(tmp_path)
    assert data.image_shape == (1, 4, 5)
    assert data.images.unique().tolist() == [9]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_one_colour_image_makes_all_rgb(tmp_path: Path, mode: str):
    """A single colour image, even the last, gives three channels to all."""
    picture(tmp_path / "test" / "a" / "0.png", mode="L", value=9)
    picture(tmp_path / "test" / "b" / "0.tif", mode=mode)
    data = load(tmp_path)
    assert data.image_shape == (3, 4, 5)
    assert data.images[0].unique().tolist() == [9]


@pytest.mark.parametrize(("size", "shape"), [(6, (3, 6, 6)), ((3, 7), (3, 3, 7))])
def test_image_size_resizes_all(root: Path, size, shape):
    """A side or (H, W) brings images of any size to one."""
    picture(root / "test" / "a" / "0.png", size=(50, 40))
    assert load(root, image_size=size).image_shape == shape


def test_resizing_is_antialiased(tmp_path: Path):
    """A fine checkerboard shrinks to its mean rather than to one of its colours."""
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    for name in "ab":
        picture(tmp_path / "test" / name / "0.png", mode="L")
        Image.fromarray(board).save(tmp_path / "test" / name / "0.png")
    assert (load(tmp_path, image_size=4).images.int() - 128).abs().max() <= 2


def test_other_files_are_ignored(root: Path):
    """Files that are no images, and hidden files and folders, do not count."""
    (root / "test" / "notes.txt").write_text("x")
    (root / "test" / "a" / "notes.txt").write_text("x")
    (root / "test" / "a" / "._1.png").write_text("x")
    (root / "test" / ".cache").mkdir()
    assert len(load(root)) == 4


def test_folders_below_a_class(root: Path):
    """Images in folders below a class belong to it, as in Tiny-ImageNet; order is by path."""
    for name in ("ab", "zz"):
        picture(root / "test" / "a" / name / "0.png", value=30 + len(name) * (name == "zz"))
    assert load(root).images[:4, 0, 0, 0].tolist() == [1, 3, 30, 32]
    assert load(root).labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_rotation_in_exif_is_not_applied(root: Path):
    """Pixels are taken as they are stored, as torchvision takes them."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.new("RGB", (5, 4)).save(root / "test" / "a" / "1.jpg", exif=exif)
    assert load(root).image_shape == (3, 4, 5)


def test_different_size_names_the_file(root: Path):
    """Without a framing, the first file of another size is named."""
    odd = picture(root / "test" / "b" / "2.png", size=(6, 4))
    assert f"{odd} is 4x6" in message(root)
    assert "`resize` and `crop`" in message(root)


@pytest.mark.parametrize("cut", [0, 20, -30])
def test_damaged_image_names_the_file(root: Path, cut: int):
    """An empty or truncated image is named."""
    path = root / "test" / "a" / "1.png"
    Image.effect_noise((5, 4), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:cut])
    assert f"cannot read image {path}" in message(root)


def test_float_pixels_are_refused(root: Path):
    """Pixels of 32 bits are refused rather than clipped."""
    Image.new("F", (5, 4), 300.0).save(root / "test" / "a" / "1.tif")
    assert "8-bit" in message(root)


@pytest.mark.parametrize("limit", [15, 8])
def test_decompression_bomb_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch, limit: int):
    """An image above Pillow's limit is an error, also where Pillow itself would only warn."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert "cannot read image" in message(root, image_size=2)


def test_too_much_for_memory(root: Path, monkeypatch: pytest.MonkeyPatch):
    """Images that memory cannot hold give a sentence about `image_size`."""

    def no_memory(*_, **__):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(dataset.torch, "empty", no_memory)
    assert "smaller `image_size`" in message(root)


def test_missing_split(root: Path):
    """The folder that was expected is named."""
    (root / "train").rename(root / "training")
    assert f"no folder {root / 'train'}" in message(root, split="train")
    assert f"; {root} has test, training" in message(root, split="train")
    assert len(load(root)) == 4


def test_empty_folders(tmp_path: Path):
    """A split without classes and a class without images are named."""
    (tmp_path / "test").mkdir()
    assert f"no class folder in {tmp_path / 'test'}" in message(tmp_path)
    (tmp_path / "test" / "a").mkdir()
    assert f"no image in {tmp_path / 'test' / 'a'}" in message(tmp_path)


def test_one_class(tmp_path: Path):
    """One class cannot be classified."""
    picture(tmp_path / "test" / "a" / "0.png")
    assert "at least 2 classes" in message(tmp_path)


def test_splits_must_have_the_same_classes(root: Path):
    """A class that only one split has is named, whichever split is loaded."""
    picture(root / "train" / "c" / "0.png")
    for split in ("train", "test"):
        assert "'c' is in train and not in test" in message(root, split=split)
