"""Kinds of networks by the headers of their checkpoints."""

from builders import make_model

from robustbench_sde.models.checkpoint import CheckpointHeader, DatasetRef, save_checkpoint
from robustbench_sde.regression.kinds import kinds_by_header


def test_trainings_of_one_kind_differ_in_their_seed_alone(tmp_path):
    """Other noise or epochs are another kind; single trainings and imported networks are none."""
    dataset = DatasetRef(name="digits", fingerprint="sha256:aa", class_names=tuple("0123"))
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
        files[name] = tmp_path / f"{name}.safetensors"
        header = CheckpointHeader(model=model.spec, dataset=dataset, training=training)
        save_checkpoint(files[name], model, header)
    (noise,) = make_model(sigma=0.5).spec.noise
    label = f"tiny-multiplicative, multiplicative 0.5 {noise.shape}"
    found = kinds_by_header(files)
    assert list(found.values()) == [["a0", "a1"], ["long0", "long1"], ["ode0", "ode1"]]
    first, second, third = found
    assert (first, second) == (f"{label} (a0 ...)", f"{label} (long0 ...)")
    assert third == "tiny-none, no noise"
