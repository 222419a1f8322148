"""The scripts in examples/ run, at their small size (the plug-in package: test_plugins.py)."""

import json
import re
from pathlib import Path

import pytest
from forked import finished as sde_bench
from forked import script

EXAMPLES = Path(__file__).parents[1] / "examples"
#: libraries of random classifiers: kind of noise, clean and attacked accuracy of 20 digits, and what is said
#: of its module as it comes
LIBRARIES = {
    "torchbnn": ("opaque", 0.95, 0.95, ""),
    "blitz": ("opaque", 1.0, 0.9, ""),
    "bayesian_torch": ("opaque", 1.0, 0.85, ""),
    "laplace": ("none", 1.0, 0.85, "returns probabilities: .* return the logarithm"),
    "torch_uncertainty": ("opaque", 0.95, 0.85, r"returns \(32, 10\) for 4 images.* 8 estimators.*unflatten"),
    "torchdyn": ("none", 0.95, 0.85, "not tuple; .* torchdyn's NeuralODE returns times and states"),
}
#: what each prints
SAYS = {
    "library_classifiers.py": list(LIBRARIES),
    "other_libraries.py": ["torchattacks", "art", "ours"],
    "quickstart.py": ["ODE  eps 0.05", "SDE  eps 0.05"],
    "torchsde_model.py": [
        "noise: opaque  control",
        "noise: keyed   pgd",
        "every record of the second run equals that of the first",
    ],
    "torchdiffeq_model.py": ["rk4     noise: none  pgd", "dopri5  noise: none, batch-dependent pgd"],
    "torchvision_resnet18.py": ["resnet18 noise: none pgd"],
}


def test_every_example_is_run():
    """No script is left out here; masked.py is a network to be audited."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SAYS, "masked.py"}


def test_the_masked_network_fails_its_audit(tmp_path: Path):
    """Rounding the input is found: exit code 4, with the rule that says why."""
    options = ("--images", 10, "--steps", 3, "--score-draws", 1, "--json", "--quiet")
    ended = sde_bench("audit", "--model", f"{EXAMPLES / 'masked.py'}:rounded", *options, cwd=tmp_path)
    assert ended.code == 4, ended.stderr
    verdicts = {rule["name"]: rule["verdict"] for rule in json.loads(ended.stdout)["rules"]}
    assert verdicts["eps-0-control"] == "pass"
    assert verdicts["usable-gradients"] == "fail"


@pytest.mark.parametrize("name", SAYS)
def test_example_runs(name: str, tmp_path: Path):
    """An example runs as a user runs it, and the eps = 0 control equals the clean row in what it prints."""
    if name == "other_libraries.py":
        pytest.importorskip("art", reason="needs the Adversarial Robustness Toolbox")
    (tmp_path / "checkpoints").symlink_to(EXAMPLES.parent / "checkpoints")
    finished = script(EXAMPLES / name, "--small", cwd=tmp_path)
    assert finished.code == 0, finished.stderr
    for words in SAYS[name]:
        assert words in finished.stdout
    lines = finished.stdout.splitlines()
    clean = [line for line in lines if " clean " in line]
    assert [line.replace(" clean   ", " control ") for line in clean] == [
        li for li in lines if " control " in li
    ]
    if name == "quickstart.py":
        assert sorted(path.name for path in (tmp_path / "quickstart").iterdir()) == [
            "curves.svg",
            "images.png",
            "ode.log.csv",
            "ode.safetensors",
            "sde.log.csv",
            "sde.safetensors",
        ]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_of_random_classifiers_has_its_numbers(name: str, tmp_path: Path):
    """The table says what the library says by itself, within two of 20 images of what docs have."""
    pytest.importorskip(name, reason="the library is not installed")
    finished = script(EXAMPLES / "library_classifiers.py", "--small", "--only", name, cwd=tmp_path)
    assert finished.code == 0, finished.stderr
    noise, clean, attacked, said = LIBRARIES[name]
    assert (
        re.search(f"as it comes: .*{said}", finished.stdout) if said else "as it comes" not in finished.stdout
    )
    numbers = r"noise: (\w+) +right ([.\d]+) \(by itself ([.\d]+)\), under pgd ([.\d]+) \(([.\d]+)\)"
    found = re.search(numbers, finished.stdout)
    assert found is not None
    assert found[1] == noise
    assert [float(found[2]), float(found[3])] == pytest.approx([clean, clean], abs=0.1)
    assert [float(found[4]), float(found[5])] == pytest.approx([attacked, attacked], abs=0.1)
