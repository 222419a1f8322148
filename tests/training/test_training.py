"""Training: resumable to the same weights, interruptible, and honest about failure."""

import json

import pytest
import torch
from builders import make_data

from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.arithmetic import arithmetic
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.header import read_header
from robustbench_sde.storage.tensors import read_tensors, write_tensors
from robustbench_sde.training.augmentation import augment
from robustbench_sde.training.config import TrainConfig, learning_rate, parse_config
from robustbench_sde.training.loop import train

CONFIG = TrainConfig(noise="multiplicative", sigma=0.3, epochs=3, batch_size=8, steps=2, lr=0.05)
DATA = make_data(20, (1, 12, 12))


class StopAfter:
    """A progress bar that is interrupted after some batches."""

    def __init__(self, batches):
        self.left = batches

    def start(self, description, total):
        pass

    def advance(self, amount=1, note=""):
        if note:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


def weights(path):
    return load_checkpoint(path).state_dict()


BASELINES = [
    {},
    {"augment_noise": 0.25},
    {"precision": "bf16"},
    {"adversarial": "pgd", "adversarial_eps": 0.1, "adversarial_steps": 2},
    {"adversarial": "trades", "adversarial_norm": "l2", "adversarial_eps": 0.5, "adversarial_steps": 2},
]


@pytest.mark.parametrize(
    ("batches", "baseline"),
    [(0, BASELINES[0]), (2, BASELINES[0]), (3, BASELINES[0]), (4, BASELINES[0])]
    + [(8, baseline) for baseline in BASELINES],
)
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, batches, baseline):
    """Stopped anywhere, --resume ends in the same bits as an undisturbed training."""
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    config = CONFIG.model_copy(update=baseline)
    train(config, DATA, whole)
    with pytest.raises(KeyboardInterrupt):
        train(config, DATA, stopped, progress=StopAfter(batches))
    assert load_checkpoint(stopped).stochastic
    assert "interrupted" in read_header(stopped).training
    header = train(config, DATA, stopped, resume=True)
    assert header.training["epochs_done"] == 3
    first, second = weights(whole), weights(stopped)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".csv"}
    assert not list(tmp_path.glob("*.state.*"))


def test_resume_refuses_another_training_and_nothing(tmp_path):
    """Other options, a missing state and a complete training are refused with a sentence."""
    path = tmp_path / "m.safetensors"
    with pytest.raises(BenchError, match="nothing to resume"):
        train(CONFIG, DATA, path, resume=True)
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, DATA, path, progress=StopAfter(4))
    with pytest.raises(BenchError, match="another training"):
        train(CONFIG.model_copy(update={"lr": 0.01}), DATA, path, resume=True)
    train(CONFIG, DATA, path, resume=True)
    with pytest.raises(BenchError, match="complete"):
        train(CONFIG, DATA, path, resume=True)


def test_a_state_of_an_older_version_lacks_options_and_resumes(tmp_path):
    """Options that are younger than a state have their defaults in it."""
    path, state = tmp_path / "m.safetensors", tmp_path / "m.state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, DATA, path, progress=StopAfter(4))
    tensors, metadata = read_tensors(state)
    options, fingerprint = json.loads(metadata["identity"])
    del options["adversarial"], options["augment_noise"]
    write_tensors(state, tensors, metadata | {"identity": json.dumps([options, fingerprint])})
    assert train(CONFIG, DATA, path, resume=True).training["epochs_done"] == 3


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path):
    """A huge learning rate ends in one line, not in a checkpoint of NaN."""
    path = tmp_path / "m.safetensors"
    with pytest.raises(BenchError, match=r"loss is .* lower `lr`"):
        train(CONFIG.model_copy(update={"lr": 1e30}), DATA, path)
    assert not path.exists()


def test_the_header_says_what_was_trained(tmp_path):
    """Spec, data and outcome are in the checkpoint."""
    path = tmp_path / "m.safetensors"
    train(CONFIG, DATA, path, test=DATA)
    header = read_header(path)
    assert [term.kind for term in header.model.noise] == ["multiplicative"]
    assert header.model.image_shape == (1, 12, 12)
    assert header.dataset.fingerprint == DATA.fingerprint
    assert header.training["test_images"] == 20
    low, high = header.training["test_accuracy"][1:]
    assert 0 <= low < high <= 1


def test_bf16_is_the_arithmetic_of_the_steps_alone(tmp_path):
    """Weights stay in single precision, near those of fp32, and the finished model is scored in fp32."""
    states, headers = [], []
    for precision in ("fp32", "bf16"):
        path = tmp_path / f"{precision}.safetensors"
        config = CONFIG.model_copy(update={"precision": precision, "epochs": 1})
        headers.append(train(config, DATA, path, test=DATA))
        states.append(weights(path))
    assert [header.training["precision"] for header in headers] == ["fp32", "bf16"]
    changes = [(states[1][name] - one).abs().max() for name, one in states[0].items()]
    assert all(one.dtype == torch.float32 for one in states[1].values())
    assert 0 < max(changes) < 0.02
    model = load_checkpoint(tmp_path / "bf16.safetensors")
    assert model.precision == "fp32"
    records = score_records(model, DATA, to_float(DATA.images), ScoreSettings(draws=8, seed=CONFIG.seed))
    assert headers[1].training["test_accuracy"][0] == records["correct"].mean()


def test_bf16_adds_up_the_gradients_of_all_solver_steps_in_single_precision():
    """A weight that 64 steps use has no gradient that was rounded to eight bits 64 times (2.4 % of error)."""
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(64, 64, generator=generator) / 8).requires_grad_()
    start = torch.randn(256, 64, generator=generator)

    def gradient(precision):
        with arithmetic(precision, torch.device("cpu")):
            h = start
            for _ in range(64):
                h = h + torch.tanh(torch.nn.functional.linear(h, weight)).float() / 64
            loss = h.square().mean()
        (found,) = torch.autograd.grad(loss, weight)
        return found

    exact = gradient("fp32")
    assert (gradient("bf16") - exact).norm() < 0.005 * exact.norm()


def test_options_on_noise_and_solver_reach_the_model(tmp_path):
    """Terms, shape, growth, learned sigma and solver are trained with, and learning moves sigma."""
    options = {"noise": "additive:0.2+multiplicative", "noise_shape": "channel", "sigma_growth": 0.5}
    config = parse_config(
        CONFIG.model_dump() | options | {"learn_sigma": True, "solver": "heun", "steps": 3, "epochs": 1}
    )
    path = tmp_path / "m.safetensors"
    train(config, DATA, path)
    model = load_checkpoint(path)
    assert (model.noise, model.solver) == ("additive+multiplicative", "heun")
    assert {(term.shape, term.growth, term.learned) for term in model.spec.noise} == {("channel", 0.5, True)}
    assert float(weights(path)["learned.additive"]) != pytest.approx(0.2, abs=1e-6)


def test_noise_and_solver_that_do_not_fit_stop_before_training(tmp_path):
    """One sentence, and no file."""
    config = CONFIG.model_copy(update={"solver": "rk4"})
    with pytest.raises(BenchError, match="rk4 solves ODEs only"):
        train(config, DATA, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"noise": "none"}, "random-ode-seed0"),
        ({"noise": "additive:0.2+jump"}, "random-additive-0.2+jump-0.3-seed0"),
        ({"noise": "none", "preset": "resnet"}, "random-resnet-seed0"),
        ({"noise": "multiplicative", "preset": "liu2020"}, "random-liu2020-multiplicative-0.3-seed0"),
        ({"noise": "none", "preset": "liu2020"}, "random-liu2020-ode-seed0"),
        ({"noise_shape": "scalar"}, "random-multiplicative-0.3-scalar-seed0"),
        ({"noise": "none", "adversarial": "trades"}, "random-ode-trades-0.0314-seed0"),
        ({"noise": "none", "augment_noise": 0.25}, "random-ode-gaussian-0.25-seed0"),
    ],
)
def test_default_names_say_what_was_trained(changes, name):
    """Data, preset where it is not of the usual two, every term with its sigma, baseline and seed."""
    assert CONFIG.model_copy(update=changes).default_name(DATA) == name


def test_schedules_have_their_shape():
    """one-cycle rises for a quarter and falls to zero; step divides by ten after 60 and 90 of 110."""
    cycle = CONFIG.model_copy(update={"lr": 1.0})
    assert [learning_rate(cycle, p) for p in (0.0, 0.25)] == pytest.approx([0.04, 1.0])
    assert learning_rate(cycle, 0.625) == pytest.approx(0.5)
    assert learning_rate(cycle, 0.9999) < 1e-3
    step = CONFIG.model_copy(update={"lr": 1.0, "schedule": "step"})
    rates = [learning_rate(step, epoch / 110) for epoch in (0, 59, 60, 89, 90, 109)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_augmentation_is_keyed_by_image_and_epoch():
    """A crop does not depend on the batch; another epoch gives another; padding is zero."""
    images = DATA.images + 1
    options = {"padding": 3, "flip": True, "seed": 0}
    together = augment(images, DATA.ids, epoch=1, **options)
    alone = augment(images[7:8], DATA.ids[7:8], epoch=1, **options)
    assert torch.equal(together[7:8], alone)
    assert not torch.equal(together, augment(images, DATA.ids, epoch=2, **options))
    assert torch.equal(images, augment(images, DATA.ids, epoch=0, padding=0, flip=False, seed=0))


def test_every_crop_is_a_window_of_the_padded_image():
    """Each augmented image is found in its padded original, mirrored or not."""
    padded = torch.nn.functional.pad(DATA.images, (2, 2, 2, 2))
    crops = augment(DATA.images, DATA.ids, padding=2, flip=True, seed=0, epoch=0)
    windows = padded.unfold(2, 12, 1).unfold(3, 12, 1)
    for crop, window in zip(crops, windows, strict=True):
        candidates = torch.cat([window, window.flip(-1)]).flatten(0, 2)
        assert (candidates == crop).flatten(1).all(1).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "additve"}, "did you mean 'additive'"),
        ({"noise": "additive:0+dropout"}, "sigma 0"),
        ({"noise": "additive", "keep": 0.8}, "choose noise dropout"),
        ({"noise": "additive", "noise_shape": "scaler"}, "did you mean 'scalar'"),
        ({"preset": "digit"}, "did you mean 'digits'"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "epochs"),
        ({"steps": 0}, "steps"),
        ({"sigma": float("nan"), "noise": "additive"}, "sigma"),
        ({"sigma": -1}, "sigma"),
        ({"sigma": 0, "noise": "additive"}, "sigma 0"),
        ({"schedule": "cosine"}, "schedule"),
        ({"lr": "fast"}, "lr"),
        ({"adversarial": "trade"}, "did you mean 'trades'"),
        ({"adversarial": "pgd", "adversarial_eps": "8/0"}, "write a number like 0.03 or 8/255"),
        ({"adversarial": "pgd", "adversarial_eps": 0}, "adversarial_eps"),
        ({"adversarial_steps": 3}, "adversarial_steps has no effect without adversarial pgd"),
        ({"adversarial": "pgd", "trades_beta": 1}, "trades_beta has no effect without adversarial trades"),
        ({"adversarial": "pgd", "augment_noise": 0.1}, "no baseline"),
    ],
)
def test_wrong_options_are_one_sentence(options, message):
    """Unknown names suggest the nearest; values out of range name their key."""
    with pytest.raises(BenchError, match=message) as caught:
        parse_config(options)
    assert "\n" not in str(caught.value)
