"""Numbers at their limits: what overflows is said, what is small or large and sound has a row."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_data, make_model, save_digits_model
from forked import finished
from torch import nn

import robustbench_sde as rb
from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.models.checkpoint import save_checkpoint
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.training.config import TrainConfig
from robustbench_sde.training.loop import train

PGD = {"norm": "linf", "eps": 0.1, "steps": 2, "eot_draws": 2, "score_draws": 2}


def assert_sound(result, attacked="ok"):
    """A whole row: accuracies with limits around them, and nothing that is not a number where one belongs.

    `attacked` is how the status of rows of attacks begins.
    """
    for row in result.summary.to_dict("records"):
        free = row["perturbation"] in ("clean", "control")
        assert row["status"].startswith("ok" if free else attacked)
        for low, value, high in (
            ("accuracy_low", "accuracy", "accuracy_high"),
            ("single_draw_low", "single_draw_accuracy", "single_draw_high"),
        ):
            assert 0 <= row[low] <= row[value] + 1e-9 <= row[high] + 2e-9 <= 1 + 3e-9, row
    finite = result.records.drop(columns=["margin_error", "target", "gradients_misleading"]).select_dtypes(
        "number"
    )
    assert np.isfinite(finite.to_numpy(dtype=float)).all()


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "dropout", "jump"])
def test_sigma_0_is_the_ode(kind):
    """Bit for bit: no noise is drawn, and the row says that there is none."""
    data = make_data(5)
    noisy, ode = make_model(kind, 0.8), make_model("none")
    still, plain = (rb.attack(model, data, **PGD) for model in (noisy.with_noise(sigma=0.0), ode))
    pd.testing.assert_frame_equal(still.records, plain.records, check_exact=True)
    assert torch.equal(still.images, plain.images)
    assert still.summary["noise"].eq("none").all()
    assert still.summary["sigma"].eq(0).all()


@pytest.mark.parametrize("kind", ["multiplicative", "jump"])
@pytest.mark.parametrize("steps", [8, 30])
def test_a_state_too_large_for_a_norm_layer_is_no_number(kind, steps):
    """Between 1e16 and infinity torch's GroupNorm may forget the image; the logits must not look sound."""
    model, data = make_model(kind, 0.8, steps=steps), make_data(6)
    wild = model.with_noise(sigma=1000.0)
    images, draws = data.images.float() / 255, Draws(0, Stream.SCORE, range(4))
    (h, (equation,)) = wild.chains(images, data.ids, draws)[0]
    with torch.no_grad():
        size = equation.solve(h).abs().amax((2, 3, 4))
        logits = wild.logits(images, data.ids, draws)
    assert torch.equal(logits.isfinite().all(2), size < 1e16)
    assert not (size < 1e16).all()
    with pytest.raises(InvalidEvaluationError, match=r"logits of \d of 6 images are not finite"):
        rb.score(wild, data, score_draws=4)
    with pytest.raises(InvalidEvaluationError, match="not finite"):
        rb.attack(wild, data, **PGD | {"score_draws": 4})


class Broken(nn.Module):
    """Logits that are not finite for images whose first pixel is bright."""

    def forward(self, x):
        logits = torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), x[:, 0, 0, 0], -x[:, 0, 1, 1]], 1)
        return torch.where(x[:, 0, 0, 0, None] > 0.9, math.inf, logits)


@pytest.mark.parametrize("draws", [1, "auto"])
@pytest.mark.parametrize("rows", [3, 256])
def test_logits_that_are_not_finite_name_their_images(draws, rows):
    """All of them, whatever the batches; a long list is cut."""
    data = make_data(200)
    bright = data.ids[data.images[:, 0, 0, 0] > 0.9 * 255].tolist()
    few = data.select([id for id in data.ids.tolist() if id not in bright[3:]])
    net = rb.as_classifier(
        Broken().eval(), data.select([id for id in data.ids.tolist() if id not in bright][:8])
    )
    with pytest.raises(InvalidEvaluationError) as error:
        rb.score(net, few, score_draws=draws, batch_size=rows)
    assert str(error.value) == (
        f"logits of 3 of {len(few)} images are not finite: image {', '.join(map(str, bright[:3]))}"
    )
    with pytest.raises(InvalidEvaluationError) as error:
        rb.score(net, data, score_draws=draws, batch_size=rows)
    assert str(error.value).endswith(f"image {', '.join(map(str, bright[:10]))}, ...")
    assert f"of {len(bright)} of 200 images" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "count", "classes", "settings"),
    [
        ({"steps": 1}, 4, 4, {}),
        ({"steps": 1000}, 2, 4, {"steps": 1, "eot_draws": 1}),
        ({}, 1, 4, {}),
        ({"classes": 2}, 4, 2, {}),
        ({"classes": 1000}, 4, 1000, {}),
        ({}, 4, 4, {"score_draws": 1}),
        ({}, 4, 4, {"score_draws": 1, "eot_draws": 1, "rule": "single"}),
        ({}, 2, 4, {"score_draws": 10_000}),
        ({}, 2, 4, {"score_draws": 10_000, "rule": "vote"}),
        ({"classes": 1000}, 1, 1000, {"score_draws": 10_000}),
    ],
    ids=["N=1", "N=1000", "1 image", "2 classes", "1000 classes", "1 draw", "single", "10000 draws",
         "10000 votes", "1000 classes, 10000 draws"],
)  # fmt: skip
def test_extremes_have_whole_rows(changes, count, classes, settings):
    """PGD through the noise; every accuracy between its limits."""
    model, data = make_model("multiplicative", **changes), make_data(count, classes=classes)
    assert_sound(rb.attack(model, data, **(PGD | settings)))


def test_images_of_one_class_are_scored():
    """All right or all wrong as well: intervals stay in [0, 1], calibration is a number."""
    model, data = make_model("additive"), make_data(8)
    for label in range(4):
        one = ImageDataset.whole(
            "one", "test", data.images, torch.full_like(data.labels, label), data.class_names
        )
        result = rb.attack(model, one, **PGD)
        assert_sound(result)
        assert result.summary[["ece", "brier"]].notna().all(axis=None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_exactly_their_float32(tmp_path, dtype):
    """A checkpoint in half precision, and its rounded copy in float32, give equal logits."""
    model, data = make_model("multiplicative"), make_data(4)
    half = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    header = CheckpointHeader(
        model=model.spec, dataset=DatasetRef(name="random", fingerprint="", class_names=tuple("abcd"))
    )
    logits = []
    for weights in (half, {name: tensor.float() for name, tensor in half.items()}):
        model.load_state_dict(weights, assign=True)
        save_checkpoint(tmp_path / "m.safetensors", model, header)
        loaded = rb.load_checkpoint(tmp_path / "m.safetensors")
        logits.append(loaded.logits(data.images.float() / 255, data.ids, Draws(0, Stream.SCORE, range(3))))
    assert torch.equal(*logits)


@pytest.mark.parametrize("scale", [1e-30, 1e-42])
def test_tiny_and_denormal_weights_are_sound(scale):
    """Norm layers add their epsilon; nothing divides by zero. Gradients that vanish make a row suspect."""
    model = make_model("multiplicative")
    with torch.no_grad():
        for weight in model.state_dict().values():
            weight.mul_(scale)
    assert_sound(rb.attack(model, make_data(4), **PGD), attacked="suspect: gradients")


def test_a_loss_that_is_not_finite_ends_a_training(tmp_path):
    """One line that names epoch, batch and what to lower; the state of the last epoch is kept."""
    wild = TrainConfig(preset="digits", noise="multiplicative", sigma=1000.0, steps=30, epochs=1)
    data = rb.load_dataset("digits", split="train", images=8)
    with pytest.raises(BenchError, match=r"the loss is nan in epoch 1, batch 1: lower `lr` .* or `sigma`"):
        train(wild, data, tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m.state.safetensors"]


IMAGES = ("--images", 10, "--score-draws", 2, "--quiet")
COMMANDS = {
    "attack": ("attack", "wild", "--steps", 2, "--eot-draws", 2, *IMAGES),
    "corrupt": ("corrupt", "wild", "--corruptions", "fog", "--severity", 1, *IMAGES),
    "score": ("score", "given.npz", "--checkpoint", "wild", *IMAGES[2:]),
    "audit": ("audit", "wild", "--steps", 2, "--eot-draws", 2, *IMAGES),
    "stability": ("stability", "wild", *IMAGES),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_overflow_is_said_by_every_command(tmp_path, digits, command):
    """Exit 4 with the reason in one place: no NaN that looks like a number, no traceback."""
    (tmp_path / "checkpoints").mkdir()
    save_digits_model(tmp_path / "checkpoints" / "wild.safetensors", "multiplicative", steps=30)
    np.savez(tmp_path / "given.npz", x=digits.images[:10].numpy(), ids=digits.ids[:10].numpy())
    ended = finished(*COMMANDS[command], "--sigma", 1000, cwd=tmp_path)
    assert ended.code == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "not finite" in ended.stdout + ended.stderr
    for path in tmp_path.rglob("summary.parquet"):
        rows = pd.read_parquet(path)
        assert rows["status"].str.contains("not finite: image").all()
        assert rows["accuracy"].isna().all()
    for path in tmp_path.rglob("audits/*.json"):
        assert json.loads(path.read_text())["verdict"] == "fail"
