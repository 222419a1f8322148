"""CPU time of a training step, against the loops that users write with torchsde and torchdiffeq.

    pip install -e '.[test]'
    python -m benchmarks.training_step [--preset cifar] [--rows 128] [--accuracy EPOCHS --seeds 3]

All loops have the layers of the preset, the solver steps, the batch and SGD with Nesterov momentum. Each runs
in a process of its own with one thread, and they take turns, step by step: ours with the memory settings of
the commands, the others with those of Python. The table has seconds, and medians over the rounds of the ratio
of our time to that of a loop in the same round. Augmentation of images is part of none.

With `--accuracy`, ours in either precision and the loop with torchsde train the preset `digits` with
multiplicative noise from one initialisation, with noise of their own, for `--seeds` seeds. Accuracies are
those on the test digits, in fp32; differences are paired by seed, with standard errors.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_sde.data import ImageDataset, load_dataset, to_float
from robustbench_sde.evaluation.scoring import ScoreSettings, score_records
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.layers import ConvDrift
from robustbench_sde.sde.draws import KeyedRandom, Stream
from robustbench_sde.sde.heap import keep_freed_memory
from robustbench_sde.training.config import TrainConfig, learning_rate
from robustbench_sde.training.distributed import Step, Team

#: Loops in the order of the table.
LOOPS = (
    "sde-bench",
    "sde-bench, bf16",
    "torchsde",
    "sde-bench, ODE",
    "sde-bench, ODE, bf16",
    "torchdiffeq, ODE",
    "a loop, ODE",
)


def plain_drift(drift: ConvDrift, t: Tensor | float, h: Tensor) -> Tensor:
    """Run the layers of a drift as torch has them."""
    for norm, conv in ((drift.norm1, drift.conv1), (drift.norm2, drift.conv2)):
        h = F.conv2d(F.relu(norm(h)), conv.weight, conv.bias + t * conv.time, padding=1)
    out: Tensor = drift.norm3(h)
    return out


class SDE(nn.Module):
    """A drift and multiplicative noise, as torchsde wants them: states are vectors."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, drift: ConvDrift, sigma: float, shape: torch.Size) -> None:
        super().__init__()
        self.drift, self.sigma, self.shape = drift, sigma, shape

    def f(self, t: Tensor, h: Tensor) -> Tensor:
        """Return the drift."""
        return plain_drift(self.drift, t, h.view(-1, *self.shape)).flatten(1)

    def g(self, t: Tensor, h: Tensor) -> Tensor:
        """Return the diffusion."""
        return self.sigma * h


def step_of(loop: str, model: Classifier, config: TrainConfig) -> Step:
    """Return loss and logits of a batch as the loop called `loop` computes them."""
    if loop.startswith("sde-bench"):
        return Team().steps(model, config)
    drift = model.flows[0]
    assert isinstance(drift, ConvDrift)
    times = torch.tensor([0.0, config.horizon])
    length = config.horizon / model.steps

    def solve(h: Tensor) -> Tensor:
        if loop == "torchsde":
            import torchsde

            sde = SDE(drift, model.sigma, h.shape[1:])
            end: Tensor = torchsde.sdeint(sde, h.flatten(1), times, dt=length, method="euler")[-1]
            return end.view_as(h)
        if loop.startswith("torchdiffeq"):
            from torchdiffeq import odeint

            options = {"step_size": length}
            states: Tensor = odeint(partial(plain_drift, drift), h, times, method="euler", options=options)
            return states[-1]
        for index in range(model.steps):
            h = h + length * plain_drift(drift, index * length, h)
        return h

    stem: Any = model.stem

    def step(images: Tensor, labels: Tensor, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        h = (images - model.mean) / model.std
        for layer in stem:
            h = layer(h)
        h = F.relu(model.head.norm(solve(h)))
        logits: Tensor = model.head.linear(h.mean((-2, -1)))
        return F.cross_entropy(logits, labels), logits

    return step


def make(
    loop: str, preset: str, data: ImageDataset, **options: object
) -> tuple[Classifier, Callable[..., float]]:
    """Return a network to train and its update: a function of (images, labels, ids, epoch, rate)."""
    noise = "none" if "ODE" in loop else "multiplicative"
    precision = "bf16" if "bf16" in loop else "fp32"
    config = TrainConfig(preset=preset, noise=noise, precision=precision, **options)  # type: ignore[arg-type]
    model = Classifier.initialised(config.model_spec(data), config.seed).train()
    model.precision = config.precision
    step = step_of(loop, model, config)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, weight_decay=config.weight_decay, nesterov=True
    )

    def update(images: Tensor, labels: Tensor, ids: Tensor, epoch: int, rate: float) -> float:
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss, _ = step(images, labels, ids, epoch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return model, update


def photos(rows: int) -> ImageDataset:
    """Random images of the size of CIFAR-10, with random labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (rows, 3, 32, 32), generator=generator).to(torch.uint8)
    labels = torch.randint(10, (rows,), generator=generator)
    return ImageDataset.whole("photos", "train", images, labels, [str(one) for one in range(10)])


def work(loop: str, preset: str, rows: int, line: Connection) -> None:
    """Make a step whenever asked, and answer with its CPU seconds."""
    torch.set_num_threads(1)
    if loop.startswith("sde-bench"):
        keep_freed_memory()
    data = photos(rows)
    _, update = make(loop, preset, data)
    while line.recv():
        started = time.process_time()
        update(to_float(data.images), data.labels, data.ids, 0, 0.01)
        line.send(time.process_time() - started)


def measure(preset: str, rows: int, rounds: int) -> None:
    """Print the table of CPU times."""
    context = multiprocessing.get_context("spawn")
    lines = {}
    for loop in LOOPS:
        lines[loop], theirs = context.Pipe()
        context.Process(target=work, args=(loop, preset, rows, theirs), daemon=True).start()
    table: list[dict[str, Any]] = []
    for _ in range(rounds + 2):  # the first two, with cold memory, do not count
        table.append({})
        for loop, line in lines.items():
            line.send(True)
            table[-1][loop] = line.recv()
    for line in lines.values():
        line.send(False)
    print(f"{preset}, {rows} rows, {rounds} rounds, one thread{'':8}CPU ms   ours / it   ours in bf16 / it")
    for loop in LOOPS:
        ours = [own for own in LOOPS if own.startswith("sde-bench") and ("ODE" in own) == ("ODE" in loop)]
        ratios = "".join(
            f"{statistics.median(row[own] / row[loop] for row in table[2:]):12.2f}" for own in ours
        )
        print(f"{loop:45}{1000 * statistics.median(row[loop] for row in table[2:]):8.0f}{ratios}")


def accuracy(epochs: int, seeds: int) -> None:
    """Print the accuracy of both loops on the test digits."""
    torch.set_num_threads(1)
    data, test = load_dataset("digits", split="train"), load_dataset("digits", split="test")
    right: dict[str, list[float]] = {loop: [] for loop in LOOPS[:3]}
    for seed in range(seeds):
        for loop in LOOPS[:3]:
            torch.manual_seed(seed)  # torchsde takes its noise from there
            model, update = make(loop, "digits", data, epochs=epochs, seed=seed)
            config = TrainConfig(preset="digits", epochs=epochs)
            for epoch in range(epochs):
                order = KeyedRandom(seed, Stream.TRAIN, "order").permutation(len(data), draw=epoch)
                batches = order.split(config.batch_size)
                for index, batch in enumerate(batches):
                    rate = learning_rate(config, (epoch + index / len(batches)) / epochs)
                    images = to_float(data.images[batch])
                    update(images, data.labels[batch], data.ids[batch], epoch, rate)
            records = score_records(
                model.eval().with_precision("fp32"),
                test,
                to_float(test.images),
                ScoreSettings(draws=8, seed=0),
            )
            right[loop].append(float(records["correct"].mean()))
            print(f"seed {seed} {loop:16} {right[loop][-1]:.1%} of {len(test)} test digits", flush=True)
    print(f"{epochs} epochs, {seeds} seeds{'':17}mean   less torchsde (standard error)")
    for loop, found in right.items():
        differences = [one - other for one, other in zip(found, right["torchsde"], strict=True)]
        error = statistics.stdev(differences) / seeds**0.5 if seeds > 1 else float("nan")
        print(f"{loop:30}{statistics.mean(found):9.1%}{statistics.mean(differences):+9.1%} ({error:.1%})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="cifar")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--accuracy", type=int, metavar="EPOCHS", help="compare accuracies and stop")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.accuracy:
        accuracy(options.accuracy, options.seeds)
    else:
        measure(options.preset, options.rows, options.rounds)


if __name__ == "__main__":
    main()
