"""Kinds of networks by the headers of their checkpoints."""

import pytest
from builders import make_model

from robustbench_sde.api.networks import kinds_of
from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import save_checkpoint
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.regression.kinds import kinds_by_header
from robustbench_sde.storage.provenance import file_sha256

DATASET = DatasetRef(name="digits", fingerprint="sha256:aa", class_names=tuple("0123"))


def save(path, model, training):
    """Write a checkpoint, and return its path."""
    save_checkpoint(path, model, CheckpointHeader(model=model.spec, dataset=DATASET, training=training))
    return path


def test_trainings_of_one_kind_differ_in_their_seed_alone(tmp_path):
    """Other noise or epochs are another kind; single trainings and imported networks are none."""
    files = {}
    for name, model, training in (
        ("a0", make_model(sigma=0.5), {"seed": 0, "epochs": 3, "seconds": 1.0}),
        ("a1", make_model(sigma=0.5), {"seed": 1, "epochs": 3, "seconds": 2.0}),
        ("long0", make_model(sigma=0.5), {"seed": 0, "epochs": 9}),
        ("long1", make_model(sigma=0.5), {"seed": 1, "epochs": 9}),
        ("alone", make_model(sigma=0.8), {"seed": 0, "epochs": 3}),
        ("ode0", make_model("none"), {"seed": 0, "epochs": 3}),
        ("ode1", make_model("none"), {"seed": 1, "epochs": 3}),
        ("imported0", make_model(sigma=0.5), {}),
        ("imported1", make_model(sigma=0.5), {}),
    ):
        files[name] = save(tmp_path / f"{name}.safetensors", model, training)
    (noise,) = make_model(sigma=0.5).spec.noise
    label = f"tiny-multiplicative, multiplicative 0.5 {noise.shape}"
    found = kinds_by_header(files)
    assert list(found.values()) == [["a0", "a1"], ["long0", "long1"], ["ode0", "ode1"]]
    first, second, third = found
    assert (first, second) == (f"{label} (a0 ...)", f"{label} (long0 ...)")
    assert third == "tiny-none, no noise"


def test_a_training_of_an_earlier_version_is_of_the_kind_of_a_new_one(tmp_path):
    """Options that its header lacks had their default; another value of one of them is another kind."""
    now = {"epochs": 3, "adversarial": "none", "augment_noise": 0.0}
    trainings = {
        "old": {"epochs": 3, "seed": 0},
        "new": now | {"seed": 1},
        "trades": now | {"adversarial": "trades"},
    }
    files = {
        name: save(tmp_path / f"{name}.safetensors", make_model("none"), training)
        for name, training in trainings.items()
    }
    assert list(kinds_by_header(files).values()) == [["old", "new"]]


@pytest.mark.parametrize("kinds", [None, "ode=*"])
def test_a_copy_of_a_network_is_no_second_training(tmp_path, kinds):
    """An interval over trainings would be too narrow with one of them counted twice."""
    first, other = (
        save(tmp_path / f"{seed}.safetensors", make_model("none"), {"seed": seed}) for seed in range(2)
    )
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(first.read_bytes())
    files = {"a": first, "b": other, "copy": copy}
    hashes = {name: file_sha256(path) for name, path in files.items()}
    assert kinds_of(kinds, ["a", "b"], hashes, files)
    with pytest.raises(BenchError, match="a and copy are one network, not two trainings"):
        kinds_of(kinds, ["a", "b", "copy"], hashes, files)
