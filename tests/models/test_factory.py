"""Networks from a user's own code, and weights from other people's files."""

import argparse
import json
import pickle
import sys

import pytest
import torch
from builders import make_data
from models.modules import Net
from safetensors.torch import save_file

from robustbench_sde.errors import BenchError
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.modules.factory import Factory
from robustbench_sde.models.weights import load_weights, read_weights
from robustbench_sde.runs.sources import ModuleSource

CODE = """
import torch
from torch import nn
{imports}

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 4))

def other():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 4))

def counts():
    make.calls = getattr(make, "calls", 0) + 1
    net = make()
    nn.init.constant_(net[1].bias, make.calls)
    return net

def raises():
    raise RuntimeError("no such GPU")

def number():
    return 3

instance = make()
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A file of code that imports a file beside it, and a package, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "net.py").write_text(CODE.format(imports="from layers_beside import width"))
    (tmp_path / "layers_beside.py").write_text("width = 3\n")
    package = tmp_path / "netpkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(CODE.format(imports="from . import parts"))
    (package / "parts.py").write_text("def used_late():\n    import netpkg.deep\n")
    (package / "deep.py").write_text("depth = 1\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("netpkg", "layers_beside"))]:
        del sys.modules[name]


def forget():
    for name in [
        name for name in sys.modules if name.startswith(("netpkg", "layers_beside", "_robustbench"))
    ]:
        del sys.modules[name]


@pytest.mark.parametrize("text", ["net.py:make", "netpkg.models:make", "net.py:instance"])
def test_a_function_is_called_and_always_makes_the_same(code, text):
    """A function comes by file or import path; without weights, generators start from one seed for it."""
    state = torch.get_rng_state()
    (one, first), (two, second) = Factory.of(text).make(), Factory.of(text).make()
    assert first == second
    torch.testing.assert_close(one.state_dict(), two.state_dict())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("net.py:make", "net.py"),
        ("net.py:make", "layers_beside.py"),
        ("netpkg.models:make", "netpkg/parts.py"),
    ],
)
def test_the_digest_follows_the_code_and_what_it_imports(code, text, file):
    """A comment in the file, or in one that it imports, makes other work of it; so does another function."""
    before = Factory.of(text).make()[1]
    assert Factory.of(text.replace("make", "other")).make()[1] != before
    path = code / file
    path.write_text(path.read_text() + "# changed\n")
    forget()
    assert Factory.of(text).make()[1] != before


def test_the_digest_follows_the_weights(code):
    """Equal tensors in another format are the same work."""
    net, _ = Factory.of("net.py:make").make()
    torch.save(net.state_dict(), code / "w.pt")
    save_file(net.state_dict(), code / "w.safetensors")
    torch.save({name: tensor + 1 for name, tensor in net.state_dict().items()}, code / "other.pt")
    names = ("w.pt", "w.safetensors", "other.pt")
    one, two, three = (Factory.of("net.py:make", code / name).make()[1] for name in names)
    assert one == two != three


def test_weights_that_differ_at_every_call_are_found(code):
    """Weights that are evaluated must be those that were hashed."""
    source = ModuleSource.made_by(Factory.of("net.py:counts"), make_data(8))
    with pytest.raises(BenchError, match="weights are other ones each time"):
        source.load(Compute())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net", "write pkg.module:function, FILE.py:function"),
        ("absent.py:make", "absent.py does not exist"),
        ("net.py:mak", "did you mean 'make'"),
        ("net.py:raises", r"fails: RuntimeError: no such GPU \(net.py, line"),
        ("net.py:number", "returns an int; it must return an nn.Module"),
        ("netpkg.absent:make", "fails: ModuleNotFoundError"),
    ],
)
def test_wrong_factories_are_one_sentence(code, text, message):
    """The sentence says where, what, and the nearest name."""
    with pytest.raises(BenchError, match=message) as caught:
        Factory.of(text).make()
    assert "\n" not in str(caught.value)


def save_folder(path, state):
    path.mkdir()
    save_file(state, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"architectures": ["Net"]}))


FORMATS = {
    "w.pt": lambda state, path: torch.save(state, path),
    "w.pth": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "parallel.pt": lambda state, path: torch.save({f"module.{k}": v for k, v in state.items()}, path),
    "args.pt": lambda state, path: torch.save(
        {"args": argparse.Namespace(lr=0.1), "state_dict": state}, path
    ),
    "w.safetensors": lambda state, path: save_file(state, path),
    "folder": lambda state, path: save_folder(path, state),
}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_read_from(name, tmp_path):
    """State dicts, alone or beside other values, safetensors, and Hugging Face folders."""
    state = Net().state_dict()
    FORMATS[name](state, tmp_path / name)
    torch.testing.assert_close(read_weights(tmp_path / name), dict(state))


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('evil').touch()",)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(pickle.dumps(Evil())), "not a file of tensors that torch can read"),
        (lambda path: torch.save(Evil(), path), "not a file of tensors that torch can read"),
        (lambda path: torch.save(Net(), path), "not a file of tensors that torch can read"),
        (lambda path: torch.save({"epoch": 3}, path), "is not a state dict"),
        (lambda path: path.mkdir(), "has no model.safetensors or pytorch_model.bin"),
    ],
)
def test_files_that_are_no_weights_are_refused(write, message, tmp_path, monkeypatch):
    """One sentence; nothing in the file runs."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "w.pt")
    with pytest.raises(BenchError, match=message) as caught:
        read_weights(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_all_differences_of_names_and_shapes_are_listed(tmp_path):
    """Missing, unexpected and misshapen, in one line."""
    state = {"linear.weight": torch.zeros(4, 3), "head": torch.zeros(1), "tail": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BenchError) as caught:
        load_weights(Net(), tmp_path / "w.pt")
    assert str(caught.value).endswith(
        "does not fit Net; missing: linear.bias; unexpected: head, tail; "
        "of another shape: linear.weight is (4, 3), not (4, 144)"
    )
