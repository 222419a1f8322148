"""The Ray engine: the tables of the local one, whatever dies on the way."""

import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from builders import save_dead_model, save_digits_model
from forked import sde_bench

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean, Perturbation, Perturbed
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell, CertifyCell, attack_cells
from robustbench_sde.runs.cluster import ray as ray_engine
from robustbench_sde.runs.cluster.ray import RayEngine, _LostError
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

SETTINGS = ScoreSettings(draws=3, rows=6)


@dataclass(frozen=True)
class Odd(Perturbation):
    """Leaves images alone, or does what is wrong with it."""

    name = "odd"

    fault: str = ""
    #: where it leaves a mark, so that some faults happen once
    mark: Path = Path()

    @property
    def label(self):
        return f"odd-{self.fault}"

    def _perturb(self, model, batch, *, seed, rows):
        if self.fault == "nan":
            return Perturbed.free(batch.images * float("nan"))
        if self.fault == "memory" and len(batch) > 2:
            raise MemoryError
        if self.fault == "fatal" or (self.fault == "killed" and not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Perturbed.free(batch.images)


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine, which know the classes of this file."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def data(digits):
    return digits.subset(20)


@pytest.fixture
def source(tmp_path, data):
    return Source.of(save_digits_model(tmp_path / "tiny.safetensors", "additive"), data)


def assert_same_tables(run, expected):
    """All numbers to the last bit."""
    tables = [each.summary.drop(columns="seconds") for each in (run, expected)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    for cell, status in zip(run.summary["cell"], run.summary["status"], strict=True):
        if status == "ok":
            records = [each.folder.read_records(cell) for each in (run, expected)]
            pd.testing.assert_frame_equal(*records, check_exact=True)


def test_tables_equal_those_of_the_local_engine(cluster, tmp_path, data, source):
    """Also where cells fail, where batches had to be halved, and where a run goes on from stored cells."""
    other = Source.of(save_digits_model(tmp_path / "ode.safetensors", "none"), data)
    gone = Source.of(save_digits_model(tmp_path / "gone.safetensors", "additive", sigma=0.1), data)
    pgd = make_attack("pgd", eps=0.1, steps=2, eot_draws=2)
    cells = [cell for own in (source, other) for cell in attack_cells(own, [pgd], SETTINGS)]
    cells += [Cell(source, Odd("nan"), SETTINGS), Cell(source, pgd, ScoreSettings(draws=2, rows=6))]
    cells += attack_cells(gone, [pgd], SETTINGS)[:1]
    gone.path.unlink()
    local = run_cells(Work.of(cells, data), RunFolder(tmp_path / "local"))
    engine = RayEngine(shard_images=4)
    assert_same_tables(run_cells(Work.of(cells, data), RunFolder(tmp_path / "ray"), engine=engine), local)
    statuses = local.summary["status"].tolist()
    assert [status.partition(":")[0] for status in statuses] == ["ok"] * 6 + ["invalid", "ok", "failed"]
    manifest = local.folder.read_manifest()
    assert manifest["engine"] == "local"
    found = RunFolder(tmp_path / "ray").read_manifest()
    facts = {"engine": "ray", "workers": 2, "device": "cpu", "noise_backend": "auto", "shards_run_again": {}}
    assert {name: found[name] for name in facts} == facts
    again = run_cells(
        Work.of([*cells, Cell(source, Odd("memory"), SETTINGS)], data), local.folder, engine=engine
    )
    assert (again.reused, again.summary["status"].tolist()) == (7, [*statuses, "ok"])
    assert local.folder.read_manifest()["batch_size"] == {"asked": 6, "perturbing": 1}


def test_a_cluster_counts_gradients_and_its_rows_are_suspect(cluster, tmp_path, data):
    """The counts come back with the shards: tables and reasons are those of the local engine."""
    dead = Source.of(save_dead_model(tmp_path / "dead.safetensors", "none"), data)
    auto = make_attack("auto", eps=0.1, steps=2, queries_per_step=1)
    pgd = make_attack("pgd", eps=0.1, steps=2)
    work = Work.of(attack_cells(dead, [pgd, auto], SETTINGS), data)
    local = run_cells(work, RunFolder(tmp_path / "local"))
    away = run_cells(work, RunFolder(tmp_path / "ray"), engine=RayEngine(shard_images=4))
    assert_same_tables(away, local)
    statuses = away.summary["status"]
    assert [status.partition(":")[0] for status in statuses] == ["ok", "ok", "suspect", "suspect"]
    assert (away.summary["gradients_zero"][2:] == 1).all()
    for cell in away.summary["cell"][2:]:
        assert (away.folder.read_records(cell)["gradients_zero"] == 1).all()


def test_an_interrupted_run_leaves_its_tables_and_goes_on(cluster, tmp_path, data, source):
    """Ctrl-C in between: what is done is written, nothing goes on running, and the same call goes on."""

    class Impatient:
        def start(self, description, total):
            pass

        def advance(self, amount=1, note=""):
            if amount:
                raise KeyboardInterrupt

    cells = [Cell(source, Odd(), ScoreSettings(2, seed=seed, rows=6)) for seed in range(12)]
    folder = RunFolder(tmp_path / "ray")
    with pytest.raises(KeyboardInterrupt):
        run_cells(Work.of(cells, data), folder, engine=RayEngine(), bars=Bars(cells=Impatient()))
    assert folder.read_manifest()["complete"] is False
    assert len(folder.read_summary()) == 1
    run = run_cells(Work.of(cells, data), folder, engine=RayEngine())
    assert (run.reused, len(run.summary)) == (1, 12)


def test_a_killed_worker_changes_nothing(cluster, tmp_path, data, source, caplog, monkeypatch):
    """SIGKILL in the middle of a shard: run again, logged and counted; one that always kills fails alone."""
    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    mark = tmp_path / "mark"
    pgd = make_attack("pgd", eps=0.1, steps=2, eot_draws=2)
    cells = attack_cells(source, [pgd], SETTINGS)
    cells[2:2] = [Cell(source, Odd("killed", mark), SETTINGS)]
    engine = RayEngine(shard_images=6)
    run = run_cells(Work.of(cells, data), RunFolder(tmp_path / "ray"), engine=engine)
    assert mark.exists()
    assert_same_tables(run, run_cells(Work.of(cells, data), RunFolder(tmp_path / "local")))
    again = run.folder.read_manifest()["shards_run_again"]
    assert again == {"WorkerCrashedError": 1}
    assert "a shard of tiny odd-killed was lost (WorkerCrashedError)" in caplog.text
    fatal = Cell(source, Odd("fatal", mark), ScoreSettings(draws=2))
    run = run_cells(Work.of([*cells, fatal], data), RunFolder(tmp_path / "ray"), engine=engine)
    assert run.summary["status"].tolist() == ["ok"] * 4 + ["failed: lost 2 times (WorkerCrashedError)"]


def test_certificates_equal_those_of_the_local_engine(cluster, tmp_path, data, source):
    """Parts of certified cells are tasks; a part that is stored already is none."""
    smooth = source.smoothed(0.2)
    cells = [Cell(smooth, Clean(), SETTINGS)]
    certified = [CertifyCell.of(smooth, CertifySettings(draws=40, select_draws=4, radii=(0.0, 0.1)))]
    work = Work.of(cells, data, certified)
    local = run_cells(work, RunFolder(tmp_path / "local"))
    engine = RayEngine()
    found = run_cells(work, RunFolder(tmp_path / "ray"), engine=engine)
    assert found.certificates[0].certificates == local.certificates[0].certificates
    assert found.certificates[0].brackets == local.certificates[0].brackets
    assert engine.describe()["shards"] == 1 + len(certified[0].parts(len(data)))
    again = run_cells(work, RunFolder(tmp_path / "ray"), engine=RayEngine())
    assert (again.reused_certificates, again.certificates) == (1, found.certificates)


def test_a_worker_killed_for_its_memory_gets_half_the_batch(cluster, tmp_path, data, source, monkeypatch):
    """The machine's memory, not the worker's own to notice: shards go on with fewer rows."""
    result, left = ray_engine._Cluster.result, [1]

    def killed_once(self, task):
        report = result(self, task)
        if left and left.pop():
            raise _LostError(ray.exceptions.OutOfMemoryError(""), memory=True)
        return report

    monkeypatch.setattr(ray_engine._Cluster, "result", killed_once)
    engine = RayEngine()
    run = run_cells(
        Work.of([Cell(source, Odd(), SETTINGS)], data), RunFolder(tmp_path / "ray"), engine=engine
    )
    assert run.summary["status"].tolist() == ["ok"]
    assert run.folder.read_manifest()["batch_size"] == {"asked": 6, "perturbing": 3, "scoring": 3}
    assert engine.lost == {"OutOfMemoryError": 1}


SUITE = """
checkpoints: [tiny-a.safetensors, tiny-b.safetensors]
images: 12
score_draws: [2, 3]
perturbations:
  - {attack: pgd, eps: [0, 0.05, 0.1], steps: 2, eot_draws: 2}
  - {corruption: [fog, brightness], severity: [1, 3]}
"""


def test_a_killed_driver_goes_on(tmp_path):
    """SIGKILL of the program while Ray works, then the same command: the tables of a local run."""
    save_digits_model(tmp_path / "tiny-a.safetensors", "additive")
    save_digits_model(tmp_path / "tiny-b.safetensors", "none")
    (tmp_path / "tiny.yaml").write_text(SUITE)
    folder = tmp_path / "reports" / "ray"
    cores = max(1, (os.cpu_count() or 1) // 2)

    def run(name, *options):
        return sde_bench("run", "tiny.yaml", "--name", name, "--no-cache", "--quiet", *options, cwd=tmp_path)

    with_ray = ("--engine", "ray", "--cpus-per-task", cores, "--shard-images", "4", "--batch-size", "6")
    process = run("ray", *with_ray)
    while process.exitcode is None and len(list(folder.glob("records/*.parquet"))) < 3:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "stderr.txt").read_text()
    stored = len(list(folder.glob("records/*.parquet")))
    for name, options in (("ray", with_ray), ("local", ("--batch-size", "6"))):
        process = run(name, *options)
        process.join()
        assert process.exitcode == 0, (tmp_path / "stderr.txt").read_text()
    tables = [RunFolder(tmp_path / "reports" / name).read_summary() for name in ("ray", "local")]
    assert 3 <= stored < len(tables[0])
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables), check_exact=True)
    assert not list(folder.rglob("*.tmp"))


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    """And nothing else of the program needs it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BenchError, match=r"needs Ray: pip install 'robustbench-sde\[distributed\]'"):
        RayEngine()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus_per_task": 0}, "`cpus_per_task` is 0"),
        ({"shard_images": 0}, "`shard_images` is 0"),
        ({"gpus_per_task": 1.5}, "`gpus_per_task` is 1.5; it must be a share of one GPU, or whole"),
        ({"gpus_per_task": -1}, "`gpus_per_task` is -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, message):
    """Before anything is started."""
    with pytest.raises(BenchError, match=message):
        RayEngine(**options)
