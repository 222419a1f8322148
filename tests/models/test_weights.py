"""Weights as other people's code saves them: names, wrappers, several networks, other kinds of files."""

import json
import pathlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.weights import load_weights


class Net(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.head = nn.Conv2d(1, 2, 3), nn.Linear(8, 3)


class Wrap(nn.Module):
    """A network whose own child is called `module`."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(4, 2)


class Tied(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 2)
        self.b = self.a


def trained(kind: type[nn.Module] = Net, by: float = 1.0) -> nn.Module:
    module = kind()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) + by)
    return module


def state(prefix: str = "", by: float = 1.0) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in trained(by=by).state_dict().items()}


def check(module: nn.Module, path: Path | str, expected: nn.Module) -> None:
    load_weights(module, Path(path))
    torch.testing.assert_close(dict(module.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


def message(module: nn.Module, path: Path | str) -> str:
    with pytest.raises(BenchError) as caught:
        load_weights(module, Path(path))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    return str(caught.value)


INSERTED = {name.replace("c1.", "c1._orig_mod."): tensor for name, tensor in state().items()}


@pytest.mark.parametrize(
    "content",
    [
        state(),
        state("module."),
        state("_orig_mod."),
        state("module._orig_mod."),
        state("_orig_mod.module."),
        {"state_dict": state("model.")},
        {"state_dict": state("net."), "epoch": 3},
        state("model._orig_mod."),
        INSERTED,
        {f"model.{name}": tensor for name, tensor in INSERTED.items()},
        state("a.b.c."),
        {"model_state": state(), "optimizer": {"state": {}, "param_groups": []}},
    ],
)
def test_whatever_stands_in_front_is_taken_off(tmp_path: Path, content: dict[str, object]):
    """Wrappers of parallel, compiled and Lightning modules, at any depth and in any order, without a word."""
    torch.save(content, tmp_path / "w.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(Net(), tmp_path / "w.pt", trained())


def test_real_wrappers(tmp_path: Path):
    """Files of AveragedModel, torch.compile of a part, and DataParallel around that are read."""
    averaged = torch.optim.swa_utils.AveragedModel(trained())
    torch.save(averaged.state_dict(), tmp_path / "a.pt")
    with pytest.warns(BenchWarning, match="'module.', which is removed; left out: n_averaged"):
        check(Net(), tmp_path / "a.pt", trained())
    part = trained()
    part.c1 = torch.compile(part.c1)
    torch.save(nn.DataParallel(part).state_dict(), tmp_path / "b.pt")
    check(Net(), tmp_path / "b.pt", trained())


def test_no_prefix_is_tried_first(tmp_path: Path):
    """A network with one child called `module` reads its own file, and one in DataParallel a plain file."""
    torch.save(trained(Wrap).state_dict(), tmp_path / "w.pt")
    check(Wrap(), tmp_path / "w.pt", trained(Wrap))
    torch.save(state(), tmp_path / "plain.pt")
    parallel = nn.DataParallel(Net())
    load_weights(parallel, tmp_path / "plain.pt")
    torch.testing.assert_close(dict(parallel.module.state_dict()), state())


def test_tensors_beside_the_network_are_named(tmp_path: Path):
    """A loss with weights in a Lightning file is left out, and said."""
    torch.save({"state_dict": state("net.") | {"loss.weight": torch.ones(3)}}, tmp_path / "w.ckpt")
    with pytest.warns(BenchWarning, match="begin with 'net.', which is removed; left out: loss.weight"):
        check(Net(), tmp_path / "w.ckpt", trained())


def test_two_networks_in_a_file_are_not_guessed_at(tmp_path: Path):
    """One of a student and a teacher is named by FILE:KEY."""
    torch.save(state("student.") | state("teacher.", by=5), tmp_path / "w.pt")
    assert (
        f"several networks that fit: student., teacher.; name one as {tmp_path / 'w.pt'}:student"
        in message(Net(), tmp_path / "w.pt")
    )
    check(Net(), f"{tmp_path / 'w.pt'}:teacher", trained(by=5))
    assert "no names under 'other'; they begin with student, teacher" in message(
        Net(), f"{tmp_path / 'w.pt'}:other"
    )


@pytest.mark.parametrize(("raw", "ema"), [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_raw_and_averaged_weights(tmp_path: Path, raw: str, ema: str):
    """The raw ones are taken, and it says so; FILE:KEY takes the others."""
    torch.save({raw: state(), ema: state("module.", by=5), "epoch": 1}, tmp_path / "w.pt")
    with pytest.warns(BenchWarning, match=f"{raw} is taken; the file has {ema} too, as w.pt:{ema}"):
        check(Net(), tmp_path / "w.pt", trained())
    check(Net(), f"{tmp_path / 'w.pt'}:{ema}", trained(by=5))
    assert f"has no state dict 'eam'; it has {raw}, {ema}" in message(Net(), f"{tmp_path / 'w.pt'}:eam")


def test_shared_tensors_need_one_name(tmp_path: Path):
    """A file of safetensors' save_model has one of two names of a layer."""
    net = trained(Tied)
    save_model(net, str(tmp_path / "w.safetensors"))
    check(Tied(), tmp_path / "w.safetensors", net)


def test_a_file_called_with_a_colon(tmp_path: Path):
    """A path that exists is no FILE:KEY."""
    torch.save(state(), tmp_path / "a:b")
    check(Net(), tmp_path / "a:b", trained())


def test_values_beside_the_weights(tmp_path: Path):
    """Paths, numbers of numpy and options do not stand in the way."""
    beside = {"path": pathlib.Path("/data"), "best": np.float64(0.5), "step": np.int64(3)}
    torch.save({"state_dict": state(), **beside}, tmp_path / "w.ckpt")
    check(Net(), tmp_path / "w.ckpt", trained())


def shards(folder: Path) -> None:
    """Two files and their index, as save_pretrained writes them."""
    folder.mkdir()
    names = {"c1": "model-00001-of-00002.safetensors", "head": "model-00002-of-00002.safetensors"}
    for part, file in names.items():
        save_file({name: tensor for name, tensor in state().items() if name.startswith(part)}, folder / file)
    index = {"metadata": {}, "weight_map": {name: names[name.partition(".")[0]] for name in state()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_sharded_safetensors(tmp_path: Path):
    """All files of an index are read; a missing one is named, and no file outside of the folder is opened."""
    shards(tmp_path / "w")
    check(Net(), tmp_path / "w", trained())
    (tmp_path / "w" / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors is missing" in message(Net(), tmp_path / "w")
    index = {"weight_map": {"c1.weight": "../../etc/passwd"}}
    (tmp_path / "w" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"{tmp_path / 'w' / 'passwd'} is missing" in message(Net(), tmp_path / "w")
    (tmp_path / "w" / "model.safetensors.index.json").write_text("[]")
    assert "is not an index of weights" in message(Net(), tmp_path / "w")


def scripted(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(nn.Linear(2, 2)).save(str(path))


def exported(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


def distributed(path: Path) -> None:
    path.mkdir()
    (path / ".metadata").touch()
    (path / "__0_0.distcp").touch()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (scripted, "is a TorchScript program, not weights: give `module` a function that returns"),
        (exported, "is an exported program, not weights: give `module` a function that returns"),
        (lambda path: torch.save(Net(), path), "Net, which is not opened; if you trust it, load it and save"),
        (lambda path: torch.save({"model": state(), "act": nn.ReLU()}, path), "activation.ReLU, which is"),
        (distributed, "is a distributed checkpoint of torch (FSDP, DCP); make one file of it"),
        (lambda path: torch.save({"epoch": 3, "args": {"lr": 1}}, path), "it holds epoch, args; save"),
        (lambda path: torch.save({"a": state(), "b": state()}, path), "several state dicts: a, b; name one"),
        (lambda path: torch.save([1], path), "holds a list, not a state dict"),
        (
            lambda path: torch.save(state("net.") | {"net.x": torch.ones(1)}, path),
            "without 'net.' in front of its names: unexpected: x",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_other_kinds_of_files_are_told(tmp_path: Path, write, words: str):
    """One line says what is in a file and what to do, without torch's advice to open it unsafely."""
    write(tmp_path / "w.pt2")
    text = message(Net(), tmp_path / "w.pt2")
    assert words in text
    assert "weights_only" not in text


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Beit", "Dinov2", "Swin", "ResNet"])
def test_folders_of_transformers(tmp_path: Path, kind: str):
    """A folder of save_pretrained is read as from_pretrained reads it, whatever names it has on disk."""
    transformers = pytest.importorskip("transformers")
    small = {
        "ViT": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
        "DeiT": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        "Beit": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        "Dinov2": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        "Swin": {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 2},
        "ResNet": {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"},
    }[kind]
    size = {} if kind == "ResNet" else {"image_size": 16, "patch_size": 4}
    config = getattr(transformers, f"{kind}Config")(num_labels=3, num_channels=1, **size, **small)
    make = getattr(transformers, f"{kind}ForImageClassification")
    net = make(config).eval()
    net.save_pretrained(tmp_path / "w")
    check(make(config).eval(), tmp_path / "w", net)
