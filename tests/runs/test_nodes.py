"""The Ray engine on a cluster whose nodes come and go."""

import dataclasses
import os
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from builders import save_digits_model

from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.base import Perturbation, Perturbed
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.cluster.ray import RayEngine
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


@dataclasses.dataclass(frozen=True)
class Slow(Perturbation):
    """Waits, until there is no need to, and says that it has begun."""

    name = "slow"

    folder: Path

    def _perturb(self, model, batch, *, seed, rows):
        (self.folder / f"{int(batch.ids[0])}-{os.getpid()}").touch()
        deadline = time.monotonic() + 120
        while not (self.folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return Perturbed.free(batch.images)


class Changes:
    """A progress bar that takes a node away and adds another, once there is work on both."""

    def __init__(self, cluster, begun):
        self.cluster, self.begun = cluster, begun
        self.workers = [cluster.add_node(num_cpus=1) for _ in range(2)]

    def start(self, description, total):
        pass

    def advance(self, amount=1, note=""):
        count = len(list(self.begun.iterdir()))
        if count == 2 and self.workers:
            here = ray.get_runtime_context().get_node_id()  # this program is on one of the nodes itself
            gone = next(node for node in self.workers if node.node_id != here)
            self.cluster.remove_node(gone, allow_graceful=False)
            self.cluster.add_node(num_cpus=1)
            self.workers = []
        elif count >= 3:
            (self.begun / "go").touch()


def test_nodes_that_come_and_go_change_nothing(tmp_path, digits):
    """The shards of a node that is removed are run again; one that is added takes part."""
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    data = digits.subset(4)
    source = Source.of(save_digits_model(tmp_path / "tiny.safetensors", "additive"), data)
    begun = tmp_path / "begun"
    begun.mkdir()
    cells = [Cell(source, Slow(begun), ScoreSettings(2, rows=2))]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        engine = RayEngine(cluster.address, shard_images=2)
        bars = Bars(images=Changes(cluster, begun))
        found = run_cells(Work.of(cells, data), RunFolder(tmp_path / "ray"), engine=engine, bars=bars)
    finally:
        cluster.shutdown()
    local = run_cells(Work.of(cells, data), RunFolder(tmp_path / "local"))
    tables = [run.summary.drop(columns="seconds") for run in (found, local)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert engine.lost.total() == 1, engine.lost
    assert found.folder.read_manifest()["workers"] in (2, 3)  # Ray takes its time to miss a node
