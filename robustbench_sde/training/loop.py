"""Run the training loop: interruptible at any moment, resumable to the same weights."""

import contextlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, counted
from robustbench_sde.evaluation.numbers import summarise
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.checkpoint import save_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import check_precision
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.models.spec import ModelSpec
from robustbench_sde.progress import SILENT, Progress
from robustbench_sde.sde.draws import KeyedRandom, Stream
from robustbench_sde.storage.lock import locked_file
from robustbench_sde.training.augmentation import augment
from robustbench_sde.training.config import TrainConfig, learning_rate
from robustbench_sde.training.distributed import Step, Team
from robustbench_sde.training.history import Epoch, for_header, write_log
from robustbench_sde.training.loggers import MakeLogger, OpenLoggers
from robustbench_sde.training.state import Identity, State, new_key, read_state, state_of, write_state
from robustbench_sde.training.tracking import Training

#: Number of draws that score the finished model on its test images.
_TEST_DRAWS = 8


def train(
    config: TrainConfig,
    data: ImageDataset,
    path: Path,
    *,
    test: ImageDataset | None = None,
    resume: bool = False,
    device: torch.device | str = "cpu",
    team: Team | None = None,
    progress: Progress = SILENT,
    loggers: Sequence[MakeLogger] = (),
) -> CheckpointHeader:
    """Train a classifier and write a checkpoint after every epoch.

    Shuffling, augmentation and noise are keyed by (seed, epoch, image id), so a resumed training makes the
    same steps as an uninterrupted one (on one device, with one number of threads).

    Args:
        config: what to train and how.
        data: the training split.
        path: checkpoint to write; ``<stem>.state.safetensors`` beside it keeps the optimiser until the end,
            and ``<stem>.log.csv`` has a line for each epoch.
        test: images on which the finished model is scored, for the header.
        resume: whether to continue from that state, which must exist.
        device: device to train on; that of `team` if one is given.
        team: the processes that train together; the first of them writes.
        progress: receiver of progress, of every batch.
        loggers: functions that open receivers of every epoch.

    Returns:
        The header of the finished checkpoint.

    Raises:
        BenchError: the loss is not finite, a file cannot be written, or the state is of another training.
        KeyboardInterrupt: after the weights so far have been written to `path`; with a message where
            there is a state to resume from.
    """
    team = team or Team(device=str(device))
    state_path = state_of(path)
    if resume and not state_path.exists():
        why = (
            f"the training of {path} is complete (there is no {state_path}); `force` trains it anew"
            if path.exists()
            else f"neither {state_path} nor {path} exists; leave `resume` out to begin"
        )
        raise BenchError(f"nothing to resume: {why}")
    with locked_file(path) if team.leads else contextlib.nullcontext():
        try:
            return _train(
                config, data, path, test=test, resume=resume, team=team, progress=progress, loggers=loggers
            )
        except KeyboardInterrupt as interrupt:
            if state_path.exists():
                raise KeyboardInterrupt(f"{state_path} is there to resume from") from interrupt
            raise


def _train(
    config: TrainConfig,
    data: ImageDataset,
    path: Path,
    *,
    test: ImageDataset | None,
    resume: bool,
    team: Team,
    progress: Progress,
    loggers: Sequence[MakeLogger],
) -> CheckpointHeader:
    """Train in the process that writes `path`, and in those that help it."""
    spec, state_path = config.model_spec(data), state_of(path)
    identity = Identity(config, data.fingerprint)
    if resume:
        state = read_state(state_path, identity)
    else:
        state = State(Classifier.initialised(spec, config.seed).state_dict(), key=new_key(identity))
    model = Classifier.from_weights(spec, state.weights).to(team.device).train()
    model.precision = check_precision(config.precision, team.device)
    step = team.steps(model, config)

    told = OpenLoggers((), _training(config, spec, data, path, state))
    if team.leads:
        told = OpenLoggers(loggers, _training(config, spec, data, path, state))
        write_state(state_path, state, identity)  # also an interrupted first epoch can be resumed
        write_log(path, state.history)  # what a kill between state and log has left out is in the state
    progress.start(f"train {path.stem}", config.epochs * math.ceil(len(data) / config.batch_size))
    progress.advance(state.epoch * math.ceil(len(data) / config.batch_size))
    try:
        while state.epoch < config.epochs:
            with team.stepping():
                _epoch(model, step, state, config, data, team, progress)
            if team.leads:
                write_state(state_path, state, identity)
                write_log(path, state.history)
                save_checkpoint(path, model, _header(config, spec, data, state))
            told.epoch(state.history[-1])
    except BaseException as error:
        told.close({}, finished=False)
        if not isinstance(error, KeyboardInterrupt):
            raise
        if team.leads:
            save_checkpoint(path, model, _header(config, spec, data, state, interrupted=True))
        raise
    header = _header(config, spec, data, state)
    if not team.leads:
        return header
    try:
        if test is not None:
            header.training.update(_test(model.eval().with_precision("fp32"), test, config.seed))
        save_checkpoint(path, model, header)
        state_path.unlink(missing_ok=True)
    except BaseException:
        told.close({}, finished=False)
        raise
    told.close({"accuracy": header.training["test_accuracy"][0]} if test is not None else {}, finished=True)
    return header


def _training(config: TrainConfig, spec: ModelSpec, data: ImageDataset, path: Path, state: State) -> Training:
    """Describe a training to loggers."""
    kind = "Neural SDE" if spec.active_noise else "Neural ODE" if "resnet" not in config.preset else "ResNet"
    noise = " + ".join(f"{term.kind} noise of sigma {term.sigma:g}" for term in spec.active_noise)
    left = "" if not state.epoch else f", {state.epoch} done"
    solved = f"{counted(spec.steps, 'step')} of {spec.solver}"
    words = (
        f"{kind}, {noise or 'no noise'}; preset {config.preset}, {solved}; "
        f"{counted(config.epochs, 'epoch')}{left}, {len(data):,} images of {data.name}, seed {config.seed}"
    )
    options = config.model_dump() | {"dataset": data.name}
    return Training(path.stem, path, words, options, state.key, tuple(state.history))


def _epoch(
    model: Classifier,
    step: Step,
    state: State,
    config: TrainConfig,
    data: ImageDataset,
    team: Team,
    progress: Progress,
) -> None:
    """Make one pass over the data; updates the model in place and `state` at the end."""
    started = time.perf_counter()
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )
    for name, parameter in model.named_parameters():
        if name in state.momenta:
            optimiser.state[parameter]["momentum_buffer"] = state.momenta[name].to(parameter.device)
    padding, flip = config.augmentation(data)
    order = KeyedRandom(config.seed, Stream.TRAIN, "order").permutation(len(data), draw=state.epoch)
    batches = order.split(config.batch_size)
    losses, right, seen = [], 0, 0
    for index, batch in enumerate(batches):
        rate = learning_rate(config, (state.epoch + index / len(batches)) / config.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        own, weight = team.share(batch)
        ids = data.ids[own]
        images = augment(
            data.images[own], ids, padding=padding, flip=flip, seed=config.seed, epoch=state.epoch
        )
        labels = data.labels[own].to(model.device)
        loss, logits = step(to_float(images).to(model.device), labels, ids, state.epoch)
        hits = int((logits.argmax(1) == labels).sum()) if weight else 0
        mean, hits_of_all = team.sums(loss.item() * weight / team.size, hits)
        if not math.isfinite(mean):
            raise BenchError(
                f"the loss is {mean} in epoch {state.epoch + 1}, batch {index + 1}: "
                f"lower `lr` (now {config.lr}) or `sigma` (now {config.sigma})"
            )
        optimiser.zero_grad()
        (loss * weight).backward()
        optimiser.step()
        losses.append(mean)
        right, seen = right + int(hits_of_all), seen + len(batch)
        progress.advance(
            note=f"epoch {state.epoch + 1}/{config.epochs} "
            f"loss {sum(losses[-50:]) / len(losses[-50:]):.3f} acc {right / seen:.1%}"
        )
    state.weights = model.state_dict()
    state.momenta = {
        name: optimiser.state[parameter]["momentum_buffer"]
        for name, parameter in model.named_parameters()
        if config.momentum > 0
    }
    seconds = time.perf_counter() - started
    state.epoch += 1
    state.seconds += seconds
    state.loss = sum(losses) / len(losses)
    sigma = _sigma(model)
    state.history.append(Epoch(state.epoch, state.loss, right / seen, rate, sigma, round(seconds, 3)))


def _sigma(model: Classifier) -> float:
    """Return the noise scale of a model: learned scales are means over the blocks."""
    scales = [
        float(model.learned[term.kind].detach().abs().mean()) if term.learned else term.sigma
        for term in model.spec.active_noise
    ]
    return math.hypot(*scales)


def _test(model: Classifier, test: ImageDataset, seed: int) -> dict[str, Any]:
    settings = ScoreSettings(draws=_TEST_DRAWS, seed=seed)
    numbers = summarise(score_records(model, test, to_float(test.images), settings))
    return {
        "test_accuracy": [numbers[name] for name in ("accuracy", "accuracy_low", "accuracy_high")],
        "test_images": len(test),
        "test_draws": _TEST_DRAWS if model.stochastic else 1,
    }


def _header(
    config: TrainConfig, spec: ModelSpec, data: ImageDataset, state: State, *, interrupted: bool = False
) -> CheckpointHeader:
    training: dict[str, Any] = config.model_dump() | {
        "images": len(data),
        "epochs_done": state.epoch,
        "seconds": round(state.seconds, 1),
        "final_loss": None if math.isnan(state.loss) else round(state.loss, 4),
    }
    if state.history:
        training["history"] = for_header(state.history)
    if interrupted:
        training["interrupted"] = f"in epoch {state.epoch + 1}"
    dataset = DatasetRef(name=data.name, fingerprint=data.fingerprint, class_names=data.class_names)
    return CheckpointHeader(model=spec, dataset=dataset, training=training)
