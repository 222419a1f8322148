"""Plug-in packages: what they add, and what is said of those that cannot be used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders import make_data, make_model, save_digits_model
from plugin_packages import install_example, make_package

from robustbench_sde import attack, corrupt, load_dataset, plugins, train
from robustbench_sde.data.registry import DATASETS
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.modules.factory import MODEL_PLUGINS, Factory
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.attacks.registry import attack_kind, make_attack
from robustbench_sde.perturbations.corruptions import Corrupted, make_corruptions, select
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which examples/plugin is installed."""
    return install_example(tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch):
    """Makes a folder of packages importable for one test."""

    folders: list[Path] = []

    def use(folder: Path) -> None:
        folders.append(folder)
        monkeypatch.syspath_prepend(folder)
        plugins._installed.cache_clear()

    yield use
    for name, module in list(sys.modules.items()):
        if any(folder in Path(getattr(module, "__file__", None) or "").parents for folder in folders):
            del sys.modules[name]
    plugins._installed.cache_clear()


def sde_bench(*arguments: object, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "robustbench_sde", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_example_attack_attacks(example: Path, site):
    """The example's one-step attack takes parameters, spends one gradient a draw and keeps its budget."""
    site(example)
    result = attack(make_model(), make_data(), "fgsm", norm="l2", eps=0.5, eot_draws=2, score_draws=2)
    row = result.summary.iloc[-1]
    assert (row["perturbation"], row["status"], row["backward_passes"]) == ("fgsm", "ok", 2)
    assert 0.3 < result.records["l2"].max() <= 0.5 + 1e-5


def test_example_corruption_corrupts(example: Path, site):
    """The example's corruption has severities, is keyed by image, and stays out of "all"."""
    site(example)
    images = torch.full((256, 1, 16, 16), 200, dtype=torch.uint8)
    dark = [(corrupt(images, "stripes", level) == 0).float().mean().item() for level in range(6)]
    assert dark == sorted(dark)
    assert dark[0] == 0 < dark[1]
    alone = corrupt(images[4:5], "stripes", 5, image_ids=[4])
    assert alone.equal(corrupt(images, "stripes", 5)[4:5])
    assert "stripes" not in select("all,digital")
    assert len(make_corruptions("stripes,fog", [1, 3])) == 4


def test_example_data_set_loads(example: Path, site):
    """The example's data set has both splits and takes `images`."""
    site(example)
    data = load_dataset("shapes", split="train", images=50)
    assert (data.name, len(data), data.image_shape, data.classes) == ("shapes", 50, (1, 16, 16), 2)


@pytest.mark.filterwarnings("ignore:.*noise of its own")
def test_example_model_is_made(example: Path, site):
    """The example's network is made by name, as --model makes it, and is evaluated."""
    site(example)
    made, _ = Factory.of("noisy-linear").make()
    made.eval()
    result = attack(
        made, load_dataset("digits", images=4), "pgd", eps=0.05, steps=2, eot_draws=2, score_draws=2
    )
    assert result.summary["noise"].tolist() == ["opaque"] * 3
    with pytest.raises(BenchError, match="or a plug-in, noisy-linear"):
        Factory.of("noisy")


def test_example_logger_follows_a_training(example: Path, site, tmp_path: Path):
    """The example's logger is found by its entry point, and has every epoch once."""
    finished = sde_bench("list", "loggers", "--json", site=example, cwd=tmp_path)
    assert json.loads(finished.stdout)["json-lines"].endswith("[sde-bench-example 1.0]"), finished.stderr
    site(example)
    out = tmp_path / "net.safetensors"
    few, test = load_dataset("digits", split="train", images=32), load_dataset("digits", images=8)
    train(few, out, test=test, epochs=1, log="json-lines", steps=2)
    train(few, out, test=test, epochs=2, log="json-lines", steps=2, force=True)
    lines = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines[:-1]] == [1, 2]
    assert all(line["loss"] > 0 for line in lines[:-1])
    assert lines[-1]["finished"] is True
    assert 0 <= lines[-1]["accuracy"] <= 1


def test_the_version_of_a_plugin_is_part_of_the_work(example: Path, site, tmp_path: Path, monkeypatch):
    """Cells of a plug-in's attack or corruption know its package; ours are as they were."""
    site(example)
    data = load_dataset("digits", images=2)
    source = Source.of(save_digits_model(tmp_path / "tiny.safetensors"), data)
    fgsm, stripes = make_attack("fgsm", eps=0.1), Corrupted("stripes", 1)
    assert fgsm.provider == stripes.provider == "sde-bench-example 1.0"
    assert make_attack("pgd", eps=0.1).provider == Corrupted("fog", 1).provider == ""
    cells = [Cell(source, perturbation, ScoreSettings()) for perturbation in (fgsm, stripes, Control(fgsm))]
    before = [cell.key(data) for cell in cells]
    assert before == [cell.key(data) for cell in cells]
    monkeypatch.setattr(plugins, "_package", lambda point: "sde-bench-example 1.1")
    assert set(before).isdisjoint(cell.key(data) for cell in cells)


def test_the_program_uses_plugins(example: Path, tmp_path: Path):
    """`list` names each with its package, and commands take the names."""
    finished = sde_bench("list", "attacks", "--json", site=example, cwd=tmp_path)
    assert json.loads(finished.stdout)["fgsm"].endswith("(linf, l2) [sde-bench-example 1.0]")
    assert finished.stderr == ""
    save_digits_model(tmp_path / "tiny.safetensors")
    small = ("--images", 4, "--score-draws", 2, "--eot-draws", 2, "--quiet", "tiny.safetensors")
    finished = sde_bench("attack", "--attack", "fgsm", *small, site=example, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "fgsm linf 0.03" in finished.stdout


GOOD = "class Thing: pass\ndef load(request): return 1\ndef fails(request): raise KeyError('x')"
BROKEN = [
    ("datasets", "x = mod:load", "raise ImportError('no such thing')", "ImportError: no such thing"),
    ("datasets", "x = mod:load", "import sys; sys.exit(3)", "SystemExit: 3"),
    ("datasets", "x = mod:load", "def (", "SyntaxError: "),
    ("datasets", "x = mod:nothing", GOOD, "AttributeError: "),
    ("datasets", "x = mod", GOOD, "it must be a function of a Request"),
    ("datasets", "x = mod:load", GOOD, "returned int, not an ImageDataset"),
    ("datasets", "x = mod:fails", GOOD, "failed in its plug-in: KeyError"),
    ("attacks", "x = mod:Thing", GOOD, "it must be a subclass of Attack"),
    ("attacks", "x = robustbench_sde.perturbations.attacks.pgd:PGD", GOOD, "the name of its class is 'pgd'"),
    ("corruptions", "x = mod:load", GOOD, "it must be a Corruption"),
    ("models", "x = mod:__name__", GOOD, "it is a str; it must be a function"),
]


@pytest.mark.parametrize(("group", "entry", "code", "words"), BROKEN)
def test_a_broken_plugin_is_one_line(tmp_path: Path, site, group, entry, code, words):
    """Whatever is wrong with a plug-in is one line that names it or its data set."""
    make_package(tmp_path, "mod", group, entry, code)
    site(tmp_path)
    use = {
        "datasets": load_dataset,
        "attacks": make_attack,
        "corruptions": select,
        "models": MODEL_PLUGINS.find,
    }[group]
    with pytest.raises(BenchError) as caught:
        use("x")
    assert words in str(caught.value)
    assert "'x'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_plugin_does_not_break_the_list(tmp_path: Path):
    """`list` prints what works, and on stderr a line each about a broken and a shadowing plug-in."""
    make_package(tmp_path, "bad-one", "datasets", "broken = bad_one:x", "raise RuntimeError('out of order')")
    make_package(
        tmp_path, "bad-two", "datasets", "digits = bad_two:x", "raise RuntimeError('never imported')"
    )
    finished = sde_bench("list", "datasets", site=tmp_path, cwd=tmp_path)
    assert finished.returncode == 0
    assert all(name in finished.stdout for name in DATASETS)
    assert finished.stderr.splitlines() == [
        "sde-bench: plug-in 'broken' (datasets) of bad-one 2.0 cannot be used: RuntimeError: out of order",
        "sde-bench: plug-in 'digits' (datasets) of bad-two 2.0 is ignored: the name is built in",
    ]


def test_built_in_names_import_no_plugin(tmp_path: Path, site):
    """A built-in name means the built-in, and no package is imported for it."""
    make_package(tmp_path, "bad", "attacks", "pgd = bad:x", "raise RuntimeError('never imported')")
    site(tmp_path)
    assert attack_kind("pgd").__module__ == "robustbench_sde.perturbations.attacks.pgd"
    assert make_attack("pgd", eps=0.1).provider == ""


def test_two_packages_with_one_name(tmp_path: Path, site):
    """A name that two packages offer belongs to neither."""
    for name in ("one", "two"):
        make_package(tmp_path, name, "attacks", f"twin = {name}:x", "x = 1")
    site(tmp_path)
    with pytest.raises(BenchError, match=r"offered by one 2\.0 and two 2\.0; keep one"):
        attack_kind("twin")


def test_unknown_names_suggest_plugins(example: Path, site):
    """The nearest name may be a plug-in's."""
    site(example)
    for call, words in (
        (lambda: load_dataset("shape"), "did you mean 'shapes'?"),
        (lambda: attack_kind("fgms"), "did you mean 'fgsm'?"),
        (lambda: select("stripe"), "did you mean 'stripes'?"),
    ):
        with pytest.raises(BenchError) as caught:
            call()
        assert words in str(caught.value)
