"""Names and texts stand for checkpoints, data sets, budgets and runs in every public function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from builders import save_digits_model

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError

FEW = "npz:few.npz"
SMALL: dict[str, Any] = {"steps": 2, "eot_draws": 2, "score_draws": 2}


def few() -> ImageDataset:
    """Return the images that `FEW` names."""
    return rb.load_dataset(FEW)


def rows(result: Any) -> list[Any]:
    """Return the numbers of a result in memory."""
    return result.summary.drop(columns=["seconds", "cell"]).round(9).fillna(-1).to_numpy().tolist()


def certified(found: Any) -> list[Any]:
    """Return the certificates of each report."""
    return [(report.checkpoint, report.certificates) for report in found.reports]


def differences(found: Any) -> list[Any]:
    """Return what a comparison of networks says."""
    return [(row.subject, row.eps, row.accuracy.difference.estimate) for row in found.rows]


#: calls of each function: with names and texts, with objects and numbers, and what is compared
CALLS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[Any], Any]]] = {
    "load_checkpoint": (
        lambda: rb.load_checkpoint("none"),
        lambda: rb.load_checkpoint(Path("checkpoints/none.safetensors")),
        lambda model: (model.name, float(sum(w.sum() for w in model.parameters()))),
    ),
    "load_dataset": (
        lambda: rb.load_dataset("DIGITS", images="all"),
        lambda: rb.load_dataset("digits"),
        lambda data: (data.name, len(data), data.fingerprint),
    ),
    "attack": (
        lambda: rb.attack(
            ["none", "additive"], FEW, "PGD,square", norm="LINF", eps="8/255,0.1", smoothing="1/4", **SMALL
        ),
        lambda: rb.attack(
            [rb.load_checkpoint("none"), Path("checkpoints/additive.safetensors")],
            few(),
            ["pgd", "square"],
            norm="linf",
            eps=[8 / 255, 0.1],
            smoothing=0.25,
            **SMALL,
        ),
        lambda result: sorted(rows(result)),
    ),
    "score": (
        lambda: rb.score("additive", FEW, corruptions=["fog", "contrast"], severities="1-2", score_draws=2),
        lambda: rb.score("additive", few(), corruptions="fog,contrast", severities=[1, 2], score_draws=2),
        rows,
    ),
    "audit": (
        lambda: rb.audit("none", FEW, norm="L2", eps="1/4", steps=2, eot_draws=1, score_draws=1),
        lambda: rb.audit("none", few(), norm="l2", eps=0.25, steps=2, eot_draws=1, score_draws=1),
        lambda report: [report.accuracy, report.setting, [rule.verdict for rule in report.rules]],
    ),
    "certify": (
        lambda: rb.certify("none", FEW, smoothing="1/4", radius="0,1/8", draws=200, attack="PGD"),
        lambda: rb.certify("none", few(), smoothing=0.25, radius=[0, 0.125], draws=200, attack="pgd"),
        certified,
    ),
    "stability": (
        lambda: rb.stability("none", FEW, eps="8/255", severities="3", paths=2, **SMALL),
        lambda: rb.stability("none", few(), eps=8 / 255, severities=3, paths=2, **SMALL),
        lambda found: [str(report.exponent) for report in found.reports],
    ),
    "versus": (
        lambda: rb.versus(
            "none", "additive", FEW, "PGD", norm="linf", eps=["8/255", "0.1"], **SMALL, out=None
        ),
        lambda: rb.versus("none", "additive", few(), norm="linf", eps=[8 / 255, 0.1], **SMALL, out=None),
        differences,
    ),
    "run": (
        lambda: rb.run("mine.yaml", "none", FEW, images="all", smoothing="1/4", out="a"),
        lambda: rb.run("mine.yaml", ["checkpoints/none.safetensors"], few(), smoothing=0.25, out="b"),
        rows,
    ),
    "init_gate": (
        lambda: gated("none", "DIGITS", attack="PGD", norm="LINF", eps="8/255"),
        lambda: gated(
            Path("checkpoints/none.safetensors"), "digits", attack=["pgd"], norm="linf", eps=[8 / 255]
        ),
        lambda text: text,
    ),
    "compare": (
        lambda: rb.compare("stored", "stored"),
        lambda: rb.compare("reports/stored", Path("reports/stored")),
        lambda found: [cell.name for cell in found.cells],
    ),
    "as_classifier": (
        lambda: rb.score(rb.as_classifier(flat(), FEW), FEW),
        lambda: rb.score(rb.as_classifier(flat(), few()), few()),
        rows,
    ),
    "corrupt": (
        lambda: rb.corrupt(FEW, "fog", 3),
        lambda: rb.corrupt(few().images, "fog", 3, image_ids=few().ids),
        lambda images: images.tolist(),
    ),
    "train": (
        lambda: rb.train(FEW, "a.safetensors", test=FEW, noise="none", epochs=1, steps=1, batch_size=8),
        lambda: rb.train(
            rb.load_dataset(FEW, split="train"),
            "b.safetensors",
            test=few(),
            noise="none",
            epochs=1,
            steps=1,
            batch_size=8,
        ),
        lambda found: [found.header.training["final_loss"], found.header.training["test_images"]],
    ),
    "import_checkpoint": (
        lambda: rb.import_checkpoint("released.pth", FEW, "a.safetensors", noise="additive"),
        lambda: rb.import_checkpoint("released.pth", few(), "b.safetensors", noise="additive"),
        lambda found: found.header.dataset,
    ),
}


def gated(*arguments: Any, **options: Any) -> list[str]:
    """Make the files of a gate for two images; return its suite without the names of checkpoints and data."""
    files = rb.init_gate(*arguments, **options, images=2, install="sde-bench", force=True).files
    lines = files[0].read_text().splitlines()
    return [line for line in lines if "none" not in line and not line.startswith("dataset")]


def flat() -> torch.nn.Module:
    """Return a linear classifier with fixed weights."""
    layer = torch.nn.Linear(1024, 10)
    torch.nn.init.constant_(layer.weight, 0.01)
    torch.nn.init.constant_(layer.bias, 0.0)
    return torch.nn.Sequential(torch.nn.Flatten(), layer).eval()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with two tiny checkpoints, a few digits in a file, a run, a suite and foreign weights."""
    for kind in ("none", "additive"):
        save_digits_model(tmp_path / "checkpoints" / f"{kind}.safetensors", kind)
    monkeypatch.chdir(tmp_path)
    digits = rb.load_dataset("digits", images=12)
    arrays = {"x": digits.images.numpy(), "y": digits.labels.numpy()}
    np.savez(
        tmp_path / "few.npz",
        **{f"{name}_{split}": array for name, array in arrays.items() for split in ("train", "test")},
    )
    (tmp_path / "mine.yaml").write_text(
        "dataset: digits\nscore_draws: 2\n"
        "perturbations:\n  - {attack: pgd, eps: 8/255, steps: 1, eot_draws: 1}\n"
    )
    torch.save(released(), tmp_path / "released.pth")
    return tmp_path


def released() -> dict[str, torch.Tensor]:
    """Return a state dict under the names that Liu et al. released, for grey digits."""
    shapes: dict[str, tuple[int, ...]] = {
        "downsampling_layers.0": (2, 1, 3, 3),
        "downsampling_layers.1": (2,),
        "downsampling_layers.3": (4, 2, 3, 3),
        "downsampling_layers.4": (4,),
        "downsampling_layers.6": (8, 4, 4, 4),
        "fc_layers.0": (8,),
        "fc_layers.4": (10, 8),
    }
    flow = "multiscale_flows.flows.0.flow_fn"
    shapes |= {f"{flow}.norm{index}": (8,) for index in (1, 2, 3, 4)}
    shapes |= {f"{flow}.conv{index}": (8, 8, 3, 3) for index in (2, 3)}
    shapes[f"{flow}.conv1._layer"] = (8, 72, 3, 3)
    state = {f"{name}.weight": torch.full(shape, 0.1) for name, shape in shapes.items()}
    state["multiscale_flows.flows.0.diffusion.sigma"] = torch.tensor(0.5)
    return state | {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}


def test_every_function_is_in_the_table():
    """A new public function gets a line of its own."""
    assert set(CALLS) == set(rb.__all__) - {"__version__"}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(CALLS))
def test_names_and_texts_stand_for_objects(name: str, place: Path):
    """A call with names and texts gives the numbers of a call with objects."""
    if name == "compare":
        rb.score("none", few(), score_draws=1, out="reports/stored")
    by_name, by_object, numbers = CALLS[name]
    assert numbers(by_name()) == numbers(by_object())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rb.attack("none", "digts", eps=0.1), "did you mean 'digits'"),
        (lambda: rb.attack("none", 7, eps=0.1), "`data` is a int; give the name of a data set"),
        (lambda: rb.attack("none", FEW, norm="linf", eps="8"), "did you mean 8/255"),
        (lambda: rb.attack("none", FEW, eps="a lot"), "is not a number; write 0.03 or 8/255"),
        (lambda: rb.attack("none", FEW, eps="0,03"), "did you mean 0.03"),
        (lambda: rb.audit("none", FEW, eps="0.1,0.2"), "takes one budget"),
        (lambda: rb.certify("none", FEW, radius="big"), "`radius` 'big' is not a number"),
        (
            lambda: rb.score("none", FEW, corruptions="fog", severities="1-9"),
            "`severity` '1-9' is not in 1 to 5",
        ),
    ],
)
def test_a_wrong_text_is_one_sentence(call: Callable[[], Any], message: str, place: Path):
    """Texts that stand for nothing are errors that name them."""
    with pytest.raises(BenchError, match=message):
        call()


def test_a_result_is_read_by_its_name_in_reports(place: Path):
    """`Result.read` finds a run as `show` does."""
    stored = rb.score("none", few(), score_draws=1, out="reports/stored")
    pd.testing.assert_frame_equal(type(stored).read("stored").summary, stored.summary)
