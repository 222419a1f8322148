"""Write the course of a training for TensorBoard, MLflow and Weights & Biases.

After an interruption each goes on where it was: epochs that it has are not written again, and those that it
missed because the process was killed are added.
"""

import importlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from robustbench_sde.errors import BenchError
from robustbench_sde.training.history import Epoch
from robustbench_sde.training.tracking import Training, TrainingLogger

#: name of the experiment or project, unless an environment variable of the tracker says another
PROJECT = "sde-bench"


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BenchError(
            f"`log` {extra} needs a package that is not installed: pip install 'robustbench-sde[{extra}]'"
        ) from error


def _numbers(row: Epoch) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(row).items() if name != "epoch"}


class TensorBoard:
    """Event files in `<name>.tensorboard/` beside the checkpoint, written anew from the first epoch.

    Show them with ``tensorboard --logdir checkpoints``.
    """

    def __init__(self, training: Training) -> None:
        writer = _module("torch.utils.tensorboard", "tensorboard").SummaryWriter
        folder = training.path.with_name(f"{training.path.stem}.tensorboard")
        shutil.rmtree(
            folder, ignore_errors=True
        )  # of an earlier training, or of the part that is repeated here
        self._writer = writer(str(folder))
        self._last = 0
        options = "\n".join(f"    {name}: {value}" for name, value in training.options.items())
        self._writer.add_text("options", f"{training.words}\n\n{options}", 0)
        for row in training.history:
            self.epoch(row)

    def epoch(self, row: Epoch) -> None:
        """Write the numbers of an epoch at the step of its number."""
        self._last = row.epoch
        for name, value in _numbers(row).items():
            self._writer.add_scalar(f"train/{name}", value, row.epoch)
        self._writer.flush()

    def close(self, outcome: Mapping[str, float], *, finished: bool) -> None:
        """Write the test accuracy and close the file."""
        for name, value in outcome.items():
            self._writer.add_scalar(f"test/{name}", value, self._last)
        self._writer.close()


class MLflow:
    """A run in the experiment `sde-bench`, where `MLFLOW_TRACKING_URI` says, or where MLflow keeps runs."""

    def __init__(self, training: Training) -> None:
        mlflow = _module("mlflow", "mlflow")
        self._entities = _module("mlflow.entities", "mlflow")
        self._client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        mine = f"tags.sde_bench_training = '{training.key}'"
        begun = self._client.search_runs([experiment], mine, max_results=1) if training.history else []
        if begun:
            self._run = begun[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {"sde_bench_training": training.key, "mlflow.note.content": training.words}
            self._run = self._client.create_run(experiment, run_name=training.name, tags=tags).info.run_id
            parameters = [self._entities.Param(*map(str, item)) for item in training.options.items()]
            self._client.log_batch(self._run, params=parameters)
        there = (
            {metric.step for metric in self._client.get_metric_history(self._run, "loss")} if begun else {0}
        )
        self._last = 0
        for row in training.history:
            if row.epoch not in there:
                self.epoch(row)
            self._last = row.epoch

    def epoch(self, row: Epoch) -> None:
        """Write the numbers of an epoch at the step of its number."""
        self._last = row.epoch
        self._write(_numbers(row))

    def close(self, outcome: Mapping[str, float], *, finished: bool) -> None:
        """Write the test accuracy and end the run, as killed if it is not finished."""
        if outcome:
            self._write({f"test_{name}": value for name, value in outcome.items()})
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")

    def _write(self, numbers: Mapping[str, float]) -> None:
        from time import time

        now = int(1000 * time())
        metrics = [self._entities.Metric(name, value, now, self._last) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)


class WeightsAndBiases:
    """A run in the project `sde-bench`, or in that of `WANDB_PROJECT`.

    ``WANDB_MODE=offline`` needs no network; a training that goes on is then a second run of the same id.
    """

    def __init__(self, training: Training) -> None:
        wandb = _module("wandb", "wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=training.key,
            name=training.name,
            notes=training.words,
            config=dict(training.options),
            resume="allow",
            dir=os.environ.get("WANDB_DIR") or str(training.path.parent),
            reinit="create_new",
        )
        self._last = 0
        done = int(self._run.step or 0)
        for row in training.history:
            if row.epoch >= done or not self._run.resumed:
                self.epoch(row)
            self._last = row.epoch

    def epoch(self, row: Epoch) -> None:
        """Write the numbers of an epoch at the step of its number."""
        self._last = row.epoch
        self._run.log(_numbers(row), step=row.epoch)

    def close(self, outcome: Mapping[str, float], *, finished: bool) -> None:
        """Write the test accuracy and end the run."""
        for name, value in outcome.items():
            self._run.summary[f"test_{name}"] = value
        self._run.finish(exit_code=0 if finished else 1)


#: Trackers by name; each needs the extra of its name.
TRACKERS: Mapping[str, Callable[[Training], TrainingLogger]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WeightsAndBiases,
}
