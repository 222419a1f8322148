"""The engine that hands cells to a Ray cluster, in shards of images. Nothing else in this package knows Ray.

This process, the driver, keeps all that must not be lost: a shard whose worker has died is run again from
here, so that it can be counted, and a cell is yielded when all of its shards are there. Workers get what they
need with their task; no file system is shared.
"""

import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_sde.data import ImageDataset
from robustbench_sde.errors import BenchError, counted
from robustbench_sde.models.compute import Compute
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import CertifyCell
from robustbench_sde.runs.cluster.parcel import (
    PackedImages,
    Parcel,
    Report,
    files_of,
    software,
    with_images_in_memory,
)
from robustbench_sde.runs.cluster.shards import Job, Shard, groups, pieces
from robustbench_sde.runs.engine import Results
from robustbench_sde.runs.sources import file_is_gone
from robustbench_sde.runs.work import Work
from robustbench_sde.runs.worker import PHASES, Phase, line_with_place

#: How often a shard is run again after its worker or node has gone.
RETRIES = 3
#: Shards that Ray knows of at a time: enough to show an autoscaler what there is to do.
_SUBMITTED = 2000
#: Seconds between two looks at the cluster.
_LOOK = 2.0

_log = logging.getLogger(__name__)


class RayEngine:
    """Cells in shards of images, each shard a Ray task."""

    def __init__(
        self,
        address: str | None = None,
        *,
        device: str = "auto",
        cpus_per_task: int = 1,
        gpus_per_task: float | None = None,
        shard_images: int = 256,
    ) -> None:
        """Nothing is started before there is something to run.

        Args:
            address: of a cluster, `auto` for the one that this machine is part of; None starts one here.
            device: of the tasks; `auto` takes the GPUs of the cluster if it has any.
            cpus_per_task: also the threads of a task.
            gpus_per_task: 0.5 puts two tasks on a GPU; None is 1 where GPUs are used.
            shard_images: images in a shard, which is rounded up to whole batches.

        Raises:
            BenchError: Ray is not installed, or a number makes no sense.
        """
        _ray()
        for name, value in (("cpus_per_task", cpus_per_task), ("shard_images", shard_images)):
            if value < 1:
                raise BenchError(f"`{name}` is {value}; it must be at least 1")
        if gpus_per_task is not None and not (0 <= gpus_per_task <= 1 or gpus_per_task in range(2, 65)):
            raise BenchError(f"`gpus_per_task` is {gpus_per_task}; it must be a share of one GPU, or whole")
        self.address, self.device, self.shard_images = address, device.partition(":")[0], shard_images
        self.cpus_per_task, self.gpus_per_task = cpus_per_task, gpus_per_task
        self.halved: dict[Phase, int] = {}
        #: shards run again, by what Ray calls the reason
        self.lost: Counter[str] = Counter()
        self._facts: dict[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        return {"engine": "ray", **self._facts, "shards_run_again": dict(self.lost)}

    def run(self, work: Work, compute: Compute, bars: Bars) -> Results:
        if not work:
            return
        data = work.data
        jobs = [Job(group, data, pieces(group, len(data), self.shard_images)) for group in groups(work.cells)]
        bars.images.start("images", len(work) * len(data))
        yield from self._run_jobs(jobs, data, compute, bars)

    def certify(self, parts: Sequence[CertifyCell], data: ImageDataset, compute: Compute) -> Results:
        if parts:
            jobs = [Job((cell,), data, [slice(*(cell.part or (0, len(data))))]) for cell in parts]
            yield from self._run_jobs(jobs, data, compute, Bars())

    def _run_jobs(self, jobs: Sequence[Job], data: ImageDataset, compute: Compute, bars: Bars) -> Results:
        bars.images.advance(0, note="waiting for Ray")
        shards = deque(Shard(job, index) for job in jobs for index in range(len(job.pieces)))
        guest = _ray().is_initialized()
        with _connected(self.address) as ray:
            cluster = _Cluster(ray, data, compute, self)
            if self.address is None and not cluster.workers():
                raise BenchError(f"this machine does not have {cluster.task} for a task; ask for less")
            count = len(shards) + self._facts.get("shards", 0)
            self._facts |= {"ray": ray.__version__, "device": cluster.compute.device, "shards": count}
            self._facts["noise_backend"] = cluster.compute.noise_backend  # what `auto` means, tasks decide
            running: dict[Any, Shard] = {}
            try:
                yield from self._drive(cluster, shards, running, bars)
            finally:
                if guest:  # otherwise they end with our connection
                    cluster.cancel(running)

    def _drive(
        self, cluster: "_Cluster", waiting: deque[Shard], running: dict[Any, Shard], bars: Bars
    ) -> Results:
        while waiting or running:
            while waiting and len(running) < _SUBMITTED:
                shard = waiting.popleft()
                try:
                    running[cluster.submit(shard, self.halved)] = shard
                except BenchError as error:  # a file that cannot be read
                    yield from shard.fail(f"failed: {error}")
            for task in cluster.finished(running):
                shard = running.pop(task)
                try:
                    report = cluster.result(task)
                except _LostError as error:
                    if self._again(shard, error):
                        waiting.appendleft(shard)
                        continue
                    status = f"failed: lost {shard.lost} times ({error})"
                    yield from shard.fail(status)
                else:
                    self._learn(report.halved)
                    yield from shard.finish(report.results)
                bars.images.advance(shard.images)
            bars.images.advance(0, note=self._note(cluster))

    def _again(self, shard: Shard, error: "_LostError") -> bool:
        """Count a shard that was lost; whether it is to be run again."""
        shard.lost += 1
        self.lost[str(error)] += 1
        _log.warning("a shard of %s was lost (%s)", shard.label, error)
        if error.memory:  # the process was killed before it could halve its batch itself
            self._learn({phase: max(1, rows // 2) for phase, rows in shard.fitting.items()})
        return shard.lost <= RETRIES

    def _learn(self, halved: Mapping[Phase, int]) -> None:
        """Remember what did not fit into memory, so that it is not tried again."""
        for phase, rows in halved.items():
            self.halved[phase] = min(rows, self.halved.get(phase, rows))

    def _note(self, cluster: "_Cluster") -> str:
        workers = cluster.workers()
        self._facts["workers"] = max(workers, self._facts.get("workers", 0))
        note = counted(workers, "worker") if workers else f"no node has {cluster.task}"
        again = self.lost.total()
        return note + (f", {counted(again, 'shard')} run again" if again else "")


class _LostError(Exception):
    """A task has gone with its worker, for no fault of its own; the message is what Ray calls it."""

    def __init__(self, error: Exception, *, memory: bool) -> None:
        super().__init__(type(error).__name__)
        self.memory = memory


class _Cluster:
    """What is asked of Ray."""

    def __init__(self, ray: Any, data: ImageDataset, compute: Compute, engine: RayEngine) -> None:
        self._ray, self._exceptions = ray, import_module("ray.exceptions")
        gpus = engine.gpus_per_task
        if gpus is None:
            there = engine.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0
            gpus = float(there or engine.device == "cuda")
        device = ("cuda" if gpus else "cpu") if engine.device == "auto" else engine.device
        self.compute = replace(compute, device=device, memory_share=min(1.0, gpus or 1.0))
        self._cpus, self._gpus = engine.cpus_per_task, gpus
        options = {"num_cpus": self._cpus, "num_gpus": gpus, "max_retries": 0, "max_calls": 0}
        self._run = ray.remote(**options)(Parcel.run)
        self._data = ray.put(PackedImages.of(data))
        self._files: dict[Path, Any] = {}
        self._looked, self._workers = -math.inf, 0

    @property
    def task(self) -> str:
        """Resources that a task asks for."""
        return f"{self._cpus} CPU" + (f" and {self._gpus:g} GPU" if self._gpus else "")

    def workers(self) -> int:
        """Number of tasks that can run at the same time, as of a moment ago."""
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            have = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._workers = sum(self._fitting(node.get("CPU", 0), node.get("GPU", 0)) for node in have)
        return self._workers

    def _fitting(self, cpus: float, gpus: float) -> int:
        fitting = math.floor(cpus / self._cpus)
        return min(fitting, math.floor(gpus / self._gpus + 1e-6)) if self._gpus else fitting

    def submit(self, shard: Shard, halved: Mapping[Phase, int]) -> Any:
        """Start a task. Raises BenchError if a file that it needs cannot be read."""
        asked = max(cell.settings.rows for cell in shard.cells)
        shard.fitting = {phase: halved.get(phase, asked) for phase in PHASES}
        paths = files_of(shard.cells)
        for path in paths:
            if path not in self._files:
                self._files[path] = self._ray.put(_read(path))
        ids = shard.job.data.ids[shard.piece]
        cells = tuple(with_images_in_memory(cell, ids) for cell in shard.cells)
        parcel = Parcel(
            cells, shard.piece, paths, self.compute, self._cpus, dict(halved), software(shard.cells)
        )
        return self._run.remote(parcel, self._data, *(self._files[path] for path in paths))

    def finished(self, tasks: Iterable[Any]) -> list[Any]:
        """Return the tasks that are over; wait for one, but not for long."""
        waiting = list(tasks)
        with self._alive():
            return list(self._ray.wait(waiting, timeout=_LOOK)[0]) if waiting else []

    def result(self, task: Any) -> Report:
        """Return the report of a task that is over. Raises _LostError if it was not its own end."""
        ray = self._exceptions
        try:
            with self._alive():
                report: Report = self._ray.get(task)
                return report
        except ray.RayTaskError as error:  # cells fail inside a report: this is about the node
            cause = line_with_place(getattr(error, "cause", error))
            raise BenchError(
                f"a node of the cluster cannot run the cells ({cause}); all need the same versions "
                "of robustbench-sde and of plug-ins"
            ) from error
        except ray.RayError as error:
            raise _LostError(error, memory=isinstance(error, ray.OutOfMemoryError)) from error

    def cancel(self, tasks: Iterable[Any]) -> None:
        """Stop what nobody waits for any more."""
        with contextlib.suppress(self._exceptions.RayError, ConnectionError):
            for task in tasks:
                self._ray.cancel(task, force=True)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """Turn the end of the cluster into a sentence."""
        ray = self._exceptions
        try:
            yield
        except (ray.RaySystemError, ray.LocalRayletDiedError, ray.RpcError, ConnectionError) as error:
            raise BenchError(
                f"the Ray cluster has disappeared ({line_with_place(error)}); "
                "the same command continues once it is available again"
            ) from error


def _read(path: Path) -> npt.NDArray[np.uint8]:
    try:
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except FileNotFoundError:
        raise file_is_gone(path) from None
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray as the caller has connected it, or connected to `address`, or started here."""
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    ours = signal.getsignal(signal.SIGTERM)
    _start(ray, address)
    if signal.getsignal(signal.SIGTERM) is not ours:  # Ray takes it and would exit without our tables
        signal.signal(signal.SIGTERM, ours)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:  # Ray itself would try for minutes
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError) as error:
            raise BenchError(f"no Ray cluster answers at `address` {address}: {error}") from error
    own = {"include_dashboard": False} if address is None else {}
    for last in (False, True):
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
            return
        except Exception as error:  # a plain one where a busy machine takes more than Ray's 30 seconds
            if last or address is not None:
                where = "here" if address is None else f"at {address}"
                raise BenchError(f"no Ray {where}: {line_with_place(error)}") from error
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return import_module("ray")
    except ImportError as error:
        raise BenchError("the engine ray needs Ray: pip install 'robustbench-sde[distributed]'") from error
