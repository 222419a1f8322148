"""Networks of timm, torchvision and transformers by name, on this disk."""

import json
from pathlib import Path

import pytest
import torch
from builders import make_data
from torch import nn

from robustbench_sde.errors import BenchError
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.models.modules.hub import HubModel


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
    assert (module.image_size, module.class_names) == (224, ())
    assert "is for images of 224x224, builders has 9x9" in module.notes(make_data(2, (3, 9, 9), 10))[
        0
    ].replace(make_data(2, (3, 9, 9), 10).name, "builders")


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
    module = HubModel(nn.Flatten(), (0.0,), (1.0,), 4, names)
    assert "classes in another order: 0 is" in module.notes(data)[0]
    assert HubModel(nn.Flatten(), (0.0,), (1.0,), 4, data.class_names).notes(data) == ()


def test_timm_by_name(tmp_path: Path):
    """Classes and channels are those of the file; normalisation is timm's."""
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet18", num_classes=7).eval()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pth")
    module = made("timm:resnet18", tmp_path / "w.pth")
    torch.testing.assert_close(module(IMAGES), net((IMAGES - MEAN) / STD), rtol=0, atol=0)
    assert module.image_size == 224


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
    assert (module.image_size, module.class_names) == (32, ("ant", "bee"))
