"""Networks of timm, torchvision and transformers by name, on this disk."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from builders import make_data
from PIL import Image
from torch import nn

from robustbench_sde.data import load_dataset
from robustbench_sde.data.framing import Framing
from robustbench_sde.errors import BenchError
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.models.modules.hub import HubModel, _framing, _timm


def made(text: str, weights: Path | None = None) -> HubModel:
    module, _ = Factory.of(text, weights).make()
    assert isinstance(module, HubModel)
    return module


IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)


def test_torchvision_by_name(tmp_path: Path):
    """Weights of a file, as many classes as it has, and torchvision's own normalisation and image size."""
    from torchvision.models import resnet18

    net = resnet18(num_classes=10).eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    module = made("torchvision:resnet18", tmp_path / "w.pth")
    torch.testing.assert_close(module(IMAGES), net((IMAGES - MEAN) / STD), rtol=0, atol=0)
    assert (module.framing, module.class_names) == (Framing(resize=256, crop=(224, 224)), ())
    assert module.notes(make_data(2, (3, 9, 9), 10)) == (
        "its configuration is for images of 224x224, random has 9x9: for image folders, `resize` 256, "
        "`crop` 224",
    )


def test_other_weights_are_another_digest(tmp_path: Path):
    """The digest, which is in the key of every cell, is that of the weights."""
    from torchvision.models import resnet18

    digests = set()
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        torch.save(resnet18(num_classes=2).state_dict(), tmp_path / "w.pth")
        digests.add(Factory.of("torchvision:resnet18", tmp_path / "w.pth").make()[1])
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("torchvision:resnet18", "needs `weights`: nothing is downloaded"),
        ("torchvision:resnet81", "unknown network of torchvision 'resnet81'; did you mean 'resnet18'?"),
        ("torchvision:vit_b_16", "does not fit VisionTransformer"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, text: str, words: str):
    """Names and weights that do not fit."""
    torch.save({"a.weight": torch.zeros(2, 2), "a.bias": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(BenchError) as caught:
        Factory.of(text, None if "needs" in words else tmp_path / "w.pt").make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_in_another_order_are_noted():
    """Equal names at other places are named with the first of them."""
    data = make_data(4, (1, 4, 4), 3)
    names = tuple(reversed(data.class_names))
    four = Framing(crop=(4, 4))
    module = HubModel(nn.Flatten(), (0.0,), (1.0,), four, names)
    assert "classes in another order: 0 is" in module.notes(data)[0]
    assert HubModel(nn.Flatten(), (0.0,), (1.0,), four, data.class_names).notes(data) == ()


def test_images_of_the_right_size_that_were_made_in_another_way_are_noted():
    """The framing of the data is compared with that of the network's own evaluation."""
    own = Framing(resize=5, crop=(4, 4), interpolation="bicubic")
    module = HubModel(nn.Flatten(), (0.0,), (1.0,), own)
    data = make_data(4, (1, 4, 4), 3)
    assert module.notes(data) == ()  # nobody knows how these were made
    assert module.notes(replace(data, framing=own)) == ()
    (note,) = module.notes(replace(data, framing=Framing(squeeze=(4, 4))))
    assert note == (
        "its configuration has `resize` 5, `crop` 4, `interpolation` bicubic; these images were loaded with "
        "`image_size` 4"
    )


@pytest.mark.parametrize(
    ("mode", "framing"),
    [
        (None, Framing(resize=40, crop=(32, 36), interpolation="bicubic")),
        ("squash", Framing(squeeze=(40, 45), interpolation="bicubic")),
    ],
)
def test_nothing_of_timm_is_downloaded_and_images_are_framed_as_its_own(mode, framing, tmp_path, monkeypatch):
    """Every network is made without its weights; the size is that of the configuration over `crop_pct`."""
    config = {
        "classifier": "fc",
        "first_conv": "conv1",
        "input_size": (3, 32, 36),
        "crop_pct": 0.8,
        "crop_mode": mode,
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.2,) * 3,
    }
    asked = []

    def create_model(name, *, pretrained, **options):
        asked.append((name, pretrained, options))
        net = nn.Identity()
        net.pretrained_cfg = config
        return net

    timm = SimpleNamespace(is_model=lambda name: True, create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", timm)
    torch.save({"fc.weight": torch.zeros(7, 5)}, tmp_path / "w.pth")
    assert _timm("some", tmp_path / "w.pth").framing == framing
    assert asked == [("some", False, {}), ("some", False, {"num_classes": 7})]


def test_timm_by_name(tmp_path: Path):
    """Classes and channels are those of the file; normalisation is timm's."""
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet18", num_classes=7).eval()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pth")
    module = made("timm:resnet18", tmp_path / "w.pth")
    torch.testing.assert_close(module(IMAGES), net((IMAGES - MEAN) / STD), rtol=0, atol=0)
    assert module.framing == Framing(resize=235, crop=(224, 224), interpolation="bicubic")


def test_images_are_those_of_timms_own_evaluation(tmp_path: Path):
    """Pixels loaded with what the note says are those of timm's transform, and so are the logits."""
    timm = pytest.importorskip("timm")
    for label, size in (("a", (300, 260)), ("b", (240, 410))):
        path = tmp_path / "test" / label / "x.png"
        path.parent.mkdir(parents=True)
        pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    net = timm.create_model("resnet18", num_classes=2).eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    module = made("timm:resnet18", tmp_path / "w.pth")
    framing = module.framing
    data = load_dataset(
        f"image-folder:{tmp_path}",
        resize=framing.resize,
        crop=framing.crop,
        interpolation=framing.interpolation,
    )
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config(net.pretrained_cfg), is_training=False
    )
    expected = torch.stack([theirs(Image.open(file)) for file in sorted(tmp_path.glob("test/*/x.png"))])
    images = data.images / 255
    torch.testing.assert_close((images - MEAN) / STD, expected)
    torch.testing.assert_close(module(images), net(expected))
    assert module.notes(data) == ()


def test_a_folder_of_transformers(tmp_path: Path):
    """Logits of the output, normalisation and size of the processor, names of the configuration."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
        patch_size=8, num_labels=2, id2label={0: "ant", 1: "bee"},
    )  # fmt: skip
    net = transformers.ViTForImageClassification(config).eval()
    net.save_pretrained(tmp_path / "vit")
    with pytest.raises(BenchError, match=r"has no preprocessor_config.json"):
        made(f"hf:{tmp_path / 'vit'}")
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": {"height": 32, "width": 32}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    module = made(f"hf:{tmp_path / 'vit'}")
    torch.testing.assert_close(module(IMAGES), net((IMAGES - 0.5) / 0.25).logits, rtol=0, atol=0)
    assert (module.framing, module.class_names) == (Framing(squeeze=(32, 32)), ("ant", "bee"))


@pytest.mark.parametrize(
    ("config", "framing"),
    [
        ({"size": 32}, Framing(squeeze=(32, 32))),
        (
            {"size": {"height": 32, "width": 24}, "resample": 3},
            Framing(squeeze=(32, 24), interpolation="bicubic"),
        ),
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
            Framing(resize=40, crop=(32, 32)),
        ),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, Framing(resize=256, crop=(224, 224))),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, Framing(resize=384)),
        ({"do_resize": False, "size": 8, "do_center_crop": True, "crop_size": 32}, Framing(crop=(32, 32))),
        ({}, Framing()),
    ],
)
def test_sizes_of_processors(config, framing):
    """Every form in which processors of transformers write sizes is read."""
    assert _framing(config) == framing
