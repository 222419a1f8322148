"""The course of a training: its log, its curve, trackers, and what is trained if nothing is said."""

import csv
import json
import os
import re
import signal
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from builders import make_data
from forked import finished as sde_bench
from forked import sde_bench as started

import robustbench_sde as rb
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.models.header import read_header
from robustbench_sde.reporting.training import curve, read_trainings
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.training import history as h
from robustbench_sde.training import trackers
from robustbench_sde.training.config import TrainConfig, usual_noise
from robustbench_sde.training.history import NAMES, Epoch
from robustbench_sde.training.loop import train
from robustbench_sde.training.tracking import Training

CONFIG = TrainConfig(noise="multiplicative", sigma=0.3, epochs=4, batch_size=8, steps=2, lr=0.05)
DATA = make_data(20, (1, 12, 12))
OFFLINE = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}


class StopAfter:
    """A progress bar that is interrupted after some batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def start(self, description: str, total: int) -> None:
        pass

    def advance(self, amount: int = 1, note: str = "") -> None:
        if note:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


class Kept:
    """A logger that keeps what it gets."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.rows: list[Epoch] = []
        self.end: tuple[Any, bool] | None = None

    def epoch(self, row: Epoch) -> None:
        self.rows.append(row)

    def close(self, outcome: Any, *, finished: bool) -> None:
        self.end = (dict(outcome), finished)


def keeping() -> tuple[list[Kept], Any]:
    """Return a list that fills with loggers, and the function that opens one."""
    opened: list[Kept] = []

    def make(training: Training) -> Kept:
        opened.append(Kept(training))
        return opened[-1]

    return opened, make


def log(path: Path) -> pd.DataFrame:
    """Read the log beside a checkpoint, without the seconds."""
    return pd.read_csv(h.log_of(path)).drop(columns="seconds")


def interrupted(path: Path, batches: int, **options: Any) -> None:
    """Train until Ctrl-C after some batches; an epoch has three."""
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, DATA, path, progress=StopAfter(batches), **options)


def test_the_log_has_a_line_an_epoch_and_the_header_has_the_same(tmp_path: Path):
    """The last loss is that of the header, rates fall, and sigma is the trained one."""
    path = tmp_path / "m.safetensors"
    header = train(CONFIG, DATA, path)
    found = pd.read_csv(tmp_path / "m.log.csv")
    assert list(found.columns) == ["epoch", "loss", "accuracy", "lr", "sigma", "seconds"]
    assert found["epoch"].tolist() == [1, 2, 3, 4]
    assert found["loss"].iloc[-1] == pytest.approx(header.training["final_loss"], abs=1e-4)
    assert found["seconds"].sum() == pytest.approx(header.training["seconds"], abs=0.1)
    assert set(found["sigma"]) == {0.3}
    assert found["lr"].iloc[-1] < found["lr"].iloc[1]
    assert found["accuracy"].between(0, 1).all()
    kept = h.of_header(read_header(path).training)
    assert kept is not None
    pd.testing.assert_frame_equal(kept, found, rtol=1e-3, check_dtype=False)


@pytest.mark.parametrize("batches", [0, 3, 4, 8])
def test_an_interrupted_training_has_no_epoch_twice(tmp_path: Path, batches: int):
    """After --resume the log is that of an undisturbed training, wherever it was stopped."""
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    train(CONFIG, DATA, whole)
    interrupted(stopped, batches)
    done = log(stopped)["epoch"].tolist() if h.log_of(stopped).exists() else []
    assert done == list(range(1, batches // 3 + 1))
    train(CONFIG, DATA, stopped, resume=True)
    pd.testing.assert_frame_equal(log(stopped), log(whole))


def test_a_log_that_a_kill_has_left_behind_is_mended(tmp_path: Path):
    """The state is written before the log: a line that is missing is added, and nothing else."""
    path = tmp_path / "m.safetensors"
    interrupted(path, 7)
    lines = h.log_of(path).read_text().splitlines(keepends=True)
    h.log_of(path).write_text("".join(lines[:-1]))  # killed between the two writes
    train(CONFIG, DATA, path, resume=True)
    assert log(path)["epoch"].tolist() == [1, 2, 3, 4]


def test_after_sigkill_the_log_is_whole(tmp_path: Path):
    """The command is killed in the middle and resumed: every epoch is there once."""
    options = ["--epochs", "12", "--steps", "1", "--batch-size", "256", "--out", "m.safetensors", "--quiet"]
    running = started("train", *options, cwd=tmp_path)
    file = tmp_path / "m.log.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not file.exists() or len(file.read_text().splitlines()) < 4):
        time.sleep(0.02)
    running.kill()
    running.join()
    assert running.exitcode == -signal.SIGKILL
    before = list(csv.DictReader(file.open()))
    assert 3 <= len(before) < 12
    done = sde_bench("train", *options, "--resume", cwd=tmp_path)
    assert done.code == 0, done.stderr
    after = list(csv.DictReader(file.open()))
    assert [row["epoch"] for row in after] == [str(number) for number in range(1, 13)]
    assert after[: len(before)] == before


def test_a_long_history_fits_into_a_header():
    """A thousand evenly spaced epochs of a longer training are kept, the first and the last among them."""
    rows = [Epoch(number, 1 / number, 0.5, 0.1, 0.5, 1.0) for number in range(1, 5001)]
    kept = h.for_header(rows)
    assert (len(kept["epoch"]), kept["epoch"][0], kept["epoch"][-1]) == (h.MOST_EPOCHS, 1, 5000)
    assert len(json.dumps(kept)) < 100_000
    assert h.from_json(h.to_json(rows[:3])) == rows[:3]


@pytest.mark.parametrize("damage", [{}, {"history": 3}, {"history": {name: ["x"] for name in NAMES}}])
def test_a_header_without_a_history_has_no_curve(damage: dict[str, Any]):
    """Checkpoints of earlier versions, and those of others, are shown without one."""
    assert h.of_header(damage) is None


def test_resume_names_the_option_that_differs(tmp_path: Path):
    """Each changed option is said with both values; other images are said as well."""
    path = tmp_path / "m.safetensors"
    interrupted(path, 4)
    with pytest.raises(BenchError, match="another training: `epochs` 4 -> 60; give the same options"):
        train(CONFIG.model_copy(update={"epochs": 60}), DATA, path, resume=True)
    changed = CONFIG.model_copy(update={"lr": 0.1, "keep": 0.5})
    with pytest.raises(BenchError, match=r"`keep` none -> 0\.5, `lr` 0\.05 -> 0\.1, other images in `data`"):
        train(changed, make_data(21, (1, 12, 12)), path, resume=True)


@pytest.mark.parametrize(
    ("options", "noise"),
    [
        ({}, "multiplicative"),
        ({"preset": "liu2020"}, "multiplicative"),
        ({"preset": "resnet"}, "none"),
        ({"preset": "cifar-resnet"}, "none"),
        ({"solver": "heun"}, "multiplicative"),
        ({"solver": "rk4"}, "none"),
        ({"solver": "dopri5"}, "none"),
        ({"noise": "none"}, "none"),
    ],
)
def test_without_noise_an_sde_is_trained(options: dict[str, str], noise: str):
    """The default is multiplicative noise, unless the network or the solver can have none."""
    assert TrainConfig.model_validate(options).noise == noise
    if "noise" not in options:
        assert usual_noise(options.get("preset"), options.get("solver")) == noise


def test_train_says_what_it_trains_and_prints_a_line_an_epoch_in_a_pipe(tmp_path: Path):
    """Without options a Neural SDE; --quiet says nothing before the end; the curve is in `show`."""
    small = ("train", "--epochs", 2, "--steps", 1, "--batch-size", 256)
    ended = sde_bench(*small, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    first, *others = ended.stderr.splitlines()
    epochs = [line for line in others if line.startswith("epoch ")]  # beside one every 15 seconds
    assert "Neural SDE, multiplicative noise of sigma 0.5; preset digits, 1 step of euler" in first
    assert [line.split()[1] for line in epochs] == ["1/2", "2/2"]
    assert "loss" in epochs[0]
    quiet = sde_bench(*small, "--noise", "none", "--out", "ode.safetensors", "--quiet", cwd=tmp_path)
    assert quiet.stderr == ""
    shown = sde_bench("show", "digits-multiplicative-0.5-seed0", cwd=tmp_path)
    assert "training, epoch 1 to 2:" in shown.stdout
    assert "history" not in shown.stdout
    told = json.loads(sde_bench("show", "digits-multiplicative-0.5-seed0", "--json", cwd=tmp_path).stdout)
    assert told["training"]["history"]["epoch"] == [1, 2]


def test_resume_on_the_command_line_names_the_option(tmp_path: Path):
    """The message of the command has --epochs where that of Python has `epochs`."""
    path = tmp_path / "checkpoints" / "m.safetensors"
    interrupted(path, 4)
    options = ("--noise", "multiplicative", "--sigma", 0.3, "--batch-size", 8, "--steps", 2, "--lr", 0.05)
    ended = sde_bench("train", *options, "--epochs", 60, "--resume", "--out", path, cwd=tmp_path)
    assert ended.code == 2
    assert "--epochs 4 -> 60" in ended.stderr
    assert "--resume" in ended.stderr


def test_a_run_keeps_the_curves_of_its_checkpoints_and_the_page_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`trainings.csv` has the rows of every checkpoint with a history; without one there is no file."""
    monkeypatch.chdir(tmp_path)
    data = rb.load_dataset("digits", images=8)
    asked = {"noise": "none", "epochs": 2, "steps": 1, "batch_size": 8}
    names = [str(rb.train(data, f"{name}.safetensors", **asked).path) for name in ("a", "b")]
    result = rb.score(names, data, score_draws=1, out="run")
    assert result.folder is not None
    found = read_trainings(RunFolder(result.folder))
    assert found is not None
    assert found["checkpoint"].tolist() == ["a", "a", "b", "b"]
    page = sde_bench("report", "run", cwd=tmp_path)
    assert "run/figures/training.svg" in page.stdout
    html = (tmp_path / "run" / "index.html").read_text()
    assert 'id="training"' in html
    assert "Mean loss and accuracy" in html
    (tmp_path / "run" / "trainings.csv").write_text("checkpoint,epoch\na,b\n")
    broken = sde_bench("report", "run", cwd=tmp_path)
    assert (broken.code, broken.stderr.count("\n")) == (2, 1)
    assert "trainings.csv is damaged" in broken.stderr


def test_a_curve_has_a_block_a_value_and_is_thinned():
    """The lowest is ▁ and the highest █; more values than letters are averaged."""
    assert curve([3, 2, 1], 10) == "█▅▁"
    assert curve([1, 1], 10) == "▄▄"
    assert curve(list(range(100)), 4) == "▁▃▆█"


def test_loggers_get_every_epoch_and_the_end(tmp_path: Path):
    """A function of a training opens one; after an interruption the next one gets what is done already."""
    path = tmp_path / "m.safetensors"
    opened, make = keeping()
    interrupted(path, 7, loggers=[make])
    train(CONFIG, DATA, path, test=DATA, resume=True, loggers=[make])
    first, second = opened
    assert [row.epoch for row in first.rows] == [1, 2]
    assert first.end == ({}, False)
    assert first.training.key == second.training.key
    assert [row.epoch for row in second.training.history] == [1, 2]
    assert [row.epoch for row in second.rows] == [3, 4]
    assert second.end is not None
    assert second.end[1]
    assert 0 <= second.end[0]["accuracy"] <= 1
    assert second.training.options["dataset"] == "random"
    third, again = keeping()
    train(CONFIG, DATA, tmp_path / "n.safetensors", loggers=[again])
    assert third[0].training.key != first.training.key


def test_a_logger_that_fails_does_not_end_the_training(tmp_path: Path):
    """A server that is gone is a warning, once."""

    class Broken(Kept):
        def epoch(self, row: Epoch) -> None:
            raise OSError("the server is gone")

    with pytest.warns(BenchWarning, match="Broken has failed and gets no more epochs") as seen:
        header = train(CONFIG, DATA, tmp_path / "m.safetensors", loggers=[Broken])
    assert len(seen) == 1
    assert header.training["epochs_done"] == 4


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("tensorbord", "unknown logger 'tensorbord'; did you mean 'tensorboard'"),
        (lambda _: 1 / 0, "cannot be"),
    ],
)
def test_a_logger_that_cannot_be_opened_is_an_error_before_the_training(
    log: Any, message: str, tmp_path: Path
):
    """No file is written."""
    with pytest.raises(BenchError, match=message):
        rb.train(DATA, tmp_path / "m.safetensors", epochs=1, log=log)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The sentence says what to install."""

    def refuse(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(trackers, "importlib", SimpleNamespace(import_module=refuse))
    with pytest.raises(BenchError, match=rf"pip install 'robustbench-sde\[{name}\]'"):
        rb.train(DATA, tmp_path / "m.safetensors", epochs=1, log=name)


def twice(path: Path, name: str) -> pd.DataFrame:
    """Train with a tracker, interrupted after two epochs and resumed; return the log without its seconds."""
    from robustbench_sde.training.loggers import find_loggers

    interrupted(path, 7, loggers=find_loggers(name))
    train(CONFIG, DATA, path, test=DATA, resume=True, loggers=find_loggers([name.upper()]))
    return log(path)


def test_tensorboard_has_every_epoch_once(tmp_path: Path):
    """The event files beside the checkpoint hold the numbers of the log, after an interruption as well."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    expected = twice(tmp_path / "m.safetensors", "tensorboard")
    events = EventAccumulator(str(tmp_path / "m.tensorboard")).Reload()
    for name in ("loss", "accuracy", "lr", "sigma"):
        found = events.Scalars(f"train/{name}")
        assert [event.step for event in found] == [1, 2, 3, 4]
        assert [event.value for event in found] == pytest.approx(expected[name].tolist(), rel=1e-4)
    (test,) = events.Scalars("test/accuracy")
    assert test.step == 4


def test_mlflow_has_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One run holds the numbers of the log and the options; it is finished, after an interruption as well."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    expected = twice(tmp_path / "m.safetensors", "mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("sde-bench").experiment_id])
    assert (run.info.status, run.info.run_name, run.data.params["lr"]) == ("FINISHED", "m", "0.05")
    for name in ("loss", "accuracy", "lr", "sigma"):
        found = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in found] == [1, 2, 3, 4]
        assert [metric.value for metric in found] == pytest.approx(expected[name].tolist(), rel=1e-4)
    assert "test_accuracy" in run.data.metrics


def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file of an offline run holds the loss of each epoch; nothing is sent."""
    pytest.importorskip("wandb")
    for name, value in (OFFLINE | {"WANDB_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    from robustbench_sde.training.loggers import find_loggers

    path = tmp_path / "m.safetensors"
    train(CONFIG, DATA, path, test=DATA, loggers=find_loggers("wandb"))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    expected = log(path)["loss"].tolist()

    def kept() -> list[float]:
        found = re.findall(rb"loss\x82\x01.([\d.]+)", file.read_bytes(), re.DOTALL)
        return sorted({round(float(text), 3) for text in found})

    until = time.monotonic() + 20  # another process of the library writes it
    while kept() != sorted(round(loss, 3) for loss in expected) and time.monotonic() < until:
        time.sleep(0.2)
    assert kept() == sorted(round(loss, 3) for loss in expected)


def test_an_epoch_has_the_columns_of_the_log():
    """The fields of an epoch and the columns of the file are the same list."""
    assert list(asdict(Epoch(1, 1.0, 1.0, 1.0, 1.0, 1.0))) == list(NAMES)
    assert os.path.basename(h.log_of(Path("a/b.safetensors"))) == "b.log.csv"  # noqa: PTH119
