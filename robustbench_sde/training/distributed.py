"""Run one training in several processes, as `torchrun` starts them: each takes a share of every batch.

Noise, order and augmentation are keyed by image, so that the processes together make the steps of one alone,
but for float rounding.
"""

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robustbench_sde.errors import BenchError
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.training.config import TrainConfig
from robustbench_sde.training.objective import objective

#: function of (images, labels, ids, epoch) that returns loss and logits, like `objective`
Step = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(eq=False)
class Team:
    """Processes of a training, seen from one of them; by default there is one."""

    rank: int = 0
    size: int = 1
    #: device on which this process computes
    device: str = "cpu"
    #: whether it was asked to stop; all stop after the same step
    stopping: bool = field(default=False, init=False)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, batch: Tensor) -> tuple[Tensor, float]:
        """Return this process's images of a batch, and their weight in the mean over the processes.

        Shares differ by an image at most. One that would be empty is an image of weight 0, since all have to
        take part in every step.
        """
        own = batch.tensor_split(self.size)[self.rank]
        if not len(own):
            return batch[:1], 0.0
        return own, len(own) * self.size / len(batch)

    def steps(self, model: Classifier, config: TrainConfig) -> Step:
        """Return the objective for a share of the batch; its gradients become the mean over the processes."""
        if self.size == 1:
            return partial(objective, model, config)
        # one input channel: torch says that it copies a gradient of a few hundred numbers
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        devices = [torch.device(self.device)] if self.device.startswith("cuda") else None
        return DistributedDataParallel(_Objective(model, config), device_ids=devices)

    def sums(self, *numbers: float) -> list[float]:
        """Return sums over the processes.

        Raises:
            KeyboardInterrupt: one of them has been asked to stop; in all of them.
        """
        if self.size == 1:
            return list(numbers)
        values = torch.tensor([*numbers, self.stopping], dtype=torch.float64, device=self.device)
        dist.all_reduce(values)
        *found, stopping = values.tolist()
        if stopping:
            raise KeyboardInterrupt
        return found

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """Let the leading process run a block first, so that only it downloads."""
        if self.size > 1 and not self.leads:
            with self._all_alive():
                dist.barrier()
        yield
        if self.size > 1 and self.leads:
            with self._all_alive():
                dist.barrier()

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Delay SIGINT and SIGTERM to the end of a step while all processes compute together."""
        if self.size == 1:
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self._all_alive():
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _all_alive(self) -> Iterator[None]:
        """Turn the failure of another process into an error of one sentence."""
        try:
            yield
        except RuntimeError as error:
            if self.stopping:  # whoever has stopped the other has stopped this one, too
                raise KeyboardInterrupt from error
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise BenchError(
                    "another process of the training has died; the same call with `resume` continues"
                ) from error
            raise

    def _stop(self, *_: Any) -> None:
        self.stopping = True


@contextlib.contextmanager
def joined(device: str) -> Iterator[Team]:
    """Return the processes that `torchrun` has started, or this one alone.

    Args:
        device: name from `resolve_device`; of several GPUs, each process takes its own.

    Raises:
        BenchError: it was not `torchrun` that started this one, or the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(device=device)
        return
    cuda = device == "cuda"
    missing = [name for name in ("RANK", *["LOCAL_RANK"] * cuda) if name not in os.environ]
    if missing:
        raise BenchError(f"WORLD_SIZE is {size}, {missing[0]} is not set: start it with torchrun")
    team = Team(int(os.environ["RANK"]), size, f"cuda:{os.environ['LOCAL_RANK']}" if cuda else device)
    try:
        dist.init_process_group("nccl" if cuda else "gloo", rank=team.rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise BenchError(f"process {team.rank} of {size} cannot reach the others: {text[:200]}") from error
    try:
        yield team
    finally:
        dist.destroy_process_group()


class _Objective(nn.Module):
    """Module around `objective`, for DistributedDataParallel."""

    def __init__(self, model: Classifier, config: TrainConfig) -> None:
        super().__init__()
        self.model, self._config = model, config

    def forward(self, images: Tensor, labels: Tensor, ids: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return loss and logits like `objective`."""
        return objective(self.model, self._config, images, labels, ids, epoch)
