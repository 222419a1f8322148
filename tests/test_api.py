"""The Python API: what the commands do, in memory or in a folder."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import make_data, make_model, save_digits_model
from torch import Tensor, nn

import robustbench_sde as rb
from robustbench_sde.api.models import find_checkpoints
from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError, InvalidEvaluationError

SMALL = {"steps": 2, "eot_draws": 2, "score_draws": 4}


@pytest.fixture(scope="module")
def few(digits: ImageDataset) -> ImageDataset:
    """Some digits."""
    return digits.subset(12)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two small untrained checkpoints."""
    for kind in ("none", "additive"):
        save_digits_model(tmp_path / "checkpoints" / f"{kind}.safetensors", kind)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(summary: pd.DataFrame) -> pd.DataFrame:
    """Return what does not depend on when and where it was computed."""
    return summary.drop(columns=["seconds", "cell"])


def test_fifteen_names():
    """There are no more, each is a function, and each can be had."""
    names = [name for name in rb.__all__ if name != "__version__"]
    assert len(names) == 15
    assert all(callable(getattr(rb, name)) for name in names)


def test_in_memory_and_in_a_folder_are_the_same(place: Path, few: ImageDataset):
    """All checkpoints of the data set, several attacks and budgets: equal numbers, records and images."""
    attacks = {"pgd": {}, "cw": {"steps": 3, "binary_search_steps": 1}}
    asked = {"norm": "linf", "eps": [0.1, 0.2], **SMALL}
    held = rb.attack(None, few, attacks, **asked)
    rows = ["clean", "control", "pgd", "pgd", "cw"]
    assert held.summary["perturbation"].tolist() == rows * 2
    assert held.summary["checkpoint"].tolist() == ["additive"] * 5 + ["none"] * 5
    stored = rb.attack(["additive", "none"], few, attacks, **asked, out="run", save_images="npz")
    pd.testing.assert_frame_equal(numbers(held.summary), numbers(stored.summary))
    for row in (0, 3, 9):
        pd.testing.assert_frame_equal(held.records_of(row), stored.records_of(row))
    assert torch.equal(held.images_of(3), stored.images_of(3))
    with pytest.raises(BenchError, match="has no images"):
        stored.images_of(0)
    again = rb.attack(["additive", "none"], few, attacks, **asked, out=place / "run")
    assert (again.reused, again.ok) == (10, True)
    read = type(stored).read("run")
    pd.testing.assert_frame_equal(read.summary, stored.summary)


def test_a_parameter_of_one_attack_is_checked_and_of_several_each_takes_its_own(
    few: ImageDataset, place: Path
):
    """A typing error is an error; without a norm each attack has its own."""
    with pytest.raises(BenchError, match="did you mean 'steps'"):
        rb.attack("none", few, "pgd", eps=0.1, stpes=3)
    result = rb.attack("none", few, ["noise", "cw"], eps=0.1, binary_search_steps=1, score_draws=1)
    assert result.summary["norm"].tolist() == ["", "linf", "linf", "l2"]


def test_a_classifier_in_memory_is_known_by_its_weights(place: Path):
    """Work of a classifier is stored; other weights or another noise are other work."""
    data, model = make_data(6), make_model()
    runs = [
        rb.score(one, data, score_draws=2, out="run", force=True).reused
        for one in (model, make_model(), model.with_noise(sigma=0.1), make_model(features=4))
    ]
    assert runs == [0, 1, 0, 0]


@pytest.mark.filterwarnings("ignore:Linear")
def test_a_module_in_memory_is_new_work_every_time(place: Path):
    """Nobody knows what its code computes, so that a folder needs `force` to be used again."""
    data = make_data(6)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 4)).eval()
    assert [rb.score(net, data, out="run", force=True).reused for _ in range(2)] == [0, 0]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_function_that_makes_a_module_is_known_again(place: Path, few: ImageDataset):
    """The second run knows the function by name and computes nothing; the noise is keyed and can be off."""
    code = """
        from torch import nn
        class Noisy(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(1024, 10)
            def noise_shape(self, image_shape):
                return (10,)
            def forward_with_noise(self, images, noise):
                return self.head(images.flatten(1)) + noise
    """
    (place / "nets.py").write_text("\n".join(line[8:] for line in code.splitlines()))
    model = rb.as_classifier("nets.py:Noisy", few, name="mine")
    first, again = (rb.attack(model, few, eps=0.1, **SMALL, out="run") for _ in range(2))
    assert (first.reused, again.reused) == (0, 3)
    assert set(first.summary["checkpoint"]) == {"mine"}
    assert rb.score(model, few, noise=False).summary["undecided"].iloc[0] == 0
    quiet = rb.as_classifier("nets.py:Noisy", few, noise=False)
    assert rb.score(quiet, few).summary["undecided"].iloc[0] == 0
    assert rb.score(model, few).summary["undecided"].iloc[0] > 0


@pytest.mark.parametrize("asked", [{"sigma": 0.1}, {"noise": False}, {"precision": "bf16"}])
def test_a_classifier_in_memory_has_its_own_noise(asked: dict[str, object]):
    """It is not silently left as it is."""
    with pytest.raises(BenchError, match="is in memory"):
        rb.score(make_model(), make_data(3), **asked)


@pytest.mark.parametrize("wrap", [lambda images: (images, 0), lambda images: images.numpy(), lambda _: []])
def test_images_that_are_no_tensor_are_told(wrap: Callable[[Tensor], object]):
    """AutoAttack can return images and labels; a tuple is no tensor, and the message says so."""
    data = make_data(3)
    with pytest.raises(BenchError, match=r"`images` is a \w+ of .*; give one tensor"):
        rb.score(make_model(), data, wrap(data.images))


def test_an_invalid_row_is_said_in_a_folder_and_raised_in_memory(place: Path):
    """The status tells, because hours of other rows are at stake."""
    data = make_data(4)
    images = data.images.float() / 255 + 0.5
    with pytest.raises(InvalidEvaluationError, match="leaves"):
        rb.score(make_model(), data, images)
    result = rb.score(make_model(), data, images, out="run")
    assert not result.ok
    assert result.summary["status"].iloc[0] == "ok"
    assert "leaves" in result.summary["status"].iloc[1]


def test_corruptions_are_scored(place: Path, few: ImageDataset):
    """Clean and corrupted rows, and the table of their means; in memory as in a folder."""
    asked = {"corruptions": "fog,gaussian:0.1", "severities": (1, 5), "reference": "none", "score_draws": 2}
    held = rb.score("additive", few, **asked)
    assert held.summary["perturbation"].tolist() == ["clean", "fog", "fog", "gaussian:0.1"] * 2
    stored = rb.score("additive", few, **asked, out="auto")
    assert stored.folder is not None
    assert stored.folder.match("reports/corrupt-digits-*")
    pd.testing.assert_frame_equal(held.corruptions, stored.corruptions)
    pd.testing.assert_frame_equal(type(stored).read(stored.folder).corruptions, stored.corruptions)


def test_images_in_files_are_scored_beside_the_originals(
    place: Path, few: ImageDataset, digits: ImageDataset
):
    """They are paired by id; the row is that of the attack that made them."""
    made = rb.attack("none", few, eps=0.1, **SMALL, out="run", save_images="safetensors")
    (file,) = (place / "run" / "images").iterdir()
    judged = rb.score("none", digits, file, score_draws=4)
    assert judged.summary["perturbation"].tolist() == ["clean", "pgd on none"]
    assert judged.records["correct"].tolist() == made.records["correct"].tolist()


def test_an_audit_and_stability_of_a_checkpoint(place: Path, few: ImageDataset):
    """Reports; of stability one a model, and what is stored is not computed again."""
    report = rb.audit("none", few, steps=2, eot_draws=1, score_draws=1)
    assert (report.checkpoint, report.images) == ("none", 12)
    assert report.write(place) == place / "audits" / "none.json"
    asked = {"paths": 2, "steps": 2, "eot_draws": 1, "score_draws": 2, "out": "flow"}
    runs = [rb.stability(None, few, **asked) for _ in range(2)]
    assert [run.reused for run in runs] == [0, 2]
    texts = [[report.to_json() for report in run.reports] for run in runs]
    assert texts[0] == texts[1]
    with pytest.raises(BenchError, match="exactly one classifier"):
        rb.audit(["none", "additive"], few)


SUITE = """
dataset: digits
images: 6
score_draws: 2
perturbations:
  - {attack: pgd, eps: 0.1, steps: 2, eot_draws: 2}
  - {corruption: fog, severity: 3}
"""


def test_a_suite_is_planned_run_and_compared_with_itself(place: Path):
    """A dry run tells and computes nothing; a run is its own baseline."""
    (place / "mine.yaml").write_text(SUITE)
    told: list[str] = []
    dry = rb.run("mine.yaml", dry_run=True, planned=lambda plan: told.append(str(plan)))
    assert told == [str(dry.plan)]
    assert told[0].startswith("8 cells: 8 to run")
    assert (len(dry.summary), (place / "reports").exists()) == (0, False)
    result = rb.run("mine.yaml", ["none", "additive"])
    assert result.folder == Path("reports/mine")
    assert result.corruptions is not None
    assert result.save_baseline("base.json") == 6
    same = rb.compare("base.json", result, max_drop=0.5)
    assert {change.drop.estimate for cell in same.cells for change in cell.changes} == {0.0}
    with pytest.raises(BenchError, match="give `out`"):
        rb.compare("base.json", rb.score("none", make_data(4, (1, 32, 32), 10)))


def test_train_writes_a_checkpoint_that_is_taken_at_once(place: Path, few: ImageDataset):
    """Options win over those of a file; nothing is overwritten unless it is said."""
    (place / "c.yaml").write_text("noise: additive\nsigma: 0.3\nepochs: 9\nsteps: 1\ndataset: mnist\n")
    trained = rb.train(few, "m.safetensors", config="c.yaml", epochs=1, test=few)
    term = trained.header.model.noise[0]
    assert (term.kind, term.sigma, trained.header.training["epochs"]) == ("additive", 0.3, 1)
    assert trained.header.training["test_images"] == 12
    assert rb.score(trained.path, few).summary["checkpoint"].tolist() == ["m"]
    with pytest.raises(BenchError, match="exists"):
        rb.train(few, "m.safetensors", epochs=1)
    with pytest.raises(BenchError, match="did you mean 'epochs'"):
        rb.train(few, "m.safetensors", epoch=1, force=True)


def test_a_script_is_named_in_the_manifest(place: Path, few: ImageDataset, monkeypatch: pytest.MonkeyPatch):
    """A run that a script has made says so."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/mine.py", "7"])
    rb.score("none", few, score_draws=1, out="run")
    assert "command: python mine.py 7" in (place / "run" / "manifest.yaml").read_text()


def test_checkpoints_of_other_data_sets_are_named(tmp_path, monkeypatch):
    """Images in a folder of another name are another data set; the message shows the names that fit."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(__file__).parents[1] / "checkpoints", "checkpoints")
    with pytest.raises(BenchError, match=r"there are some of digits, image-folder:cifar10-jpeg\)"):
        find_checkpoints([], "image-folder:elsewhere")
