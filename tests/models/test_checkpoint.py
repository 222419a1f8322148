"""Checkpoints: self-describing, atomic, never executed."""

import json
import math
import pickle

import pytest
import torch
from builders import make_model
from safetensors.torch import save_file

from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint, save_checkpoint
from robustbench_sde.models.header import CheckpointHeader, DatasetRef, read_header
from robustbench_sde.sde.draws import Draws, Stream

DATASET = DatasetRef(name="random", fingerprint="sha256:0", class_names=("a", "b", "c", "d"))
IMAGES = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))
DRAWS = Draws(0, Stream.SCORE, range(2))


@pytest.fixture
def saved(tmp_path):
    model = make_model()
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, model, CheckpointHeader(model=model.spec, dataset=DATASET, training={"epochs": 3}))
    return path


def rewrite(path, *, header=None, tensors=None):
    """The file again with another header text or other tensors."""
    from safetensors.torch import load_file

    metadata = {"sde-bench": header if header is not None else read_header(path).model_dump_json()}
    save_file(load_file(path) if tensors is None else tensors, path, metadata=metadata)


def test_a_checkpoint_needs_nothing_else(saved):
    """Loading gives the same logits, frozen weights, and the header that was written."""
    model = load_checkpoint(saved)
    assert torch.equal(model.logits(IMAGES, range(3), DRAWS), make_model().logits(IMAGES, range(3), DRAWS))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.name == "tiny"
    header = read_header(saved)
    assert header.dataset == DATASET
    assert header.training == {"epochs": 3}
    assert "torch" in header.versions


def test_sigma_can_be_set_at_load_time(saved):
    """`sigma` and `noise` change the noise and not the weights."""
    assert load_checkpoint(saved, sigma=0.1).sigma == 0.1
    assert not load_checkpoint(saved, noise=False).stochastic


def test_no_partial_file_is_left(saved, tmp_path):
    """Only the checkpoint itself is in its folder."""
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]


def damage_nan(path):
    from safetensors.torch import load_file

    tensors = load_file(path)
    tensors["head.linear.bias"][0] = torch.nan
    rewrite(path, tensors=tensors)


def edit_header(path, edit):
    header = json.loads(read_header(path).model_dump_json())
    edit(header)
    rewrite(path, header=json.dumps(header))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "unknown checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a whole safetensors"),
        (lambda path: path.write_bytes(b""), "not a whole safetensors"),
        (lambda path: path.write_bytes(b"\xff" * 1000), "not a whole safetensors"),
        (
            lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("exploded")))),
            "not a whole safetensors",
        ),
        (lambda path: save_file({"w": torch.ones(1)}, path), "without an sde-bench header"),
        (lambda path: rewrite(path, header="{"), "not JSON"),
        (lambda path: rewrite(path, header="[" * 100_000), "header"),
        (lambda path: rewrite(path, header=" " * 2**21), "characters"),
        (lambda path: edit_header(path, lambda h: h["model"].update(features=10**9)), "features"),
        (lambda path: edit_header(path, lambda h: h["model"].update(features=16)), "shape"),
        (lambda path: edit_header(path, lambda h: h["model"]["noise"][0].update(kind="additve")), "additive"),
        (lambda path: edit_header(path, lambda h: h["model"].update(noise={"kind": "additve"})), "additive"),
        (lambda path: edit_header(path, lambda h: h["model"]["noise"][0].update(sigma=math.nan)), "sigma"),
        (lambda path: edit_header(path, lambda h: h["model"].update(solver="rk4")), "solves ODEs only"),
        (lambda path: edit_header(path, lambda h: h["model"].update(solver="eulr")), "did you mean 'euler'"),
        (lambda path: edit_header(path, lambda h: h["model"].update(extra=1)), "extra"),
        (lambda path: edit_header(path, lambda h: h.pop("dataset")), "dataset"),
        (damage_nan, "NaN"),
        (lambda path: rewrite(path, tensors={"w": torch.ones(1)}), "tensor"),
    ],
)
def test_a_damaged_or_hostile_file_is_one_sentence(saved, damage, message):
    """Every way of being wrong is a BenchError of one line that names the file; nothing is executed."""
    damage(saved)
    with pytest.raises(BenchError, match=message) as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)
    assert not saved.with_name("exploded").exists()
