"""Commands on a GPU: training, resuming, memory, clusters, other libraries."""

import os
import socket
from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from builders import make_data, make_model

import robustbench_sde as rb
from benchmarks.gpu.decisions import CHECKPOINT
from benchmarks.gpu.networks import images_for, network, victim
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.models.memory import bytes_per_row, rows_that_fit
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.training.config import TrainConfig
from robustbench_sde.training.distributed import Team
from robustbench_sde.training.objective import objective

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


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


#: what the network is trained with
OPTIONS = {"noise": "multiplicative", "sigma": 0.3, "epochs": 16}
#: batches until the training is interrupted, and the share of test digits that are classified at least
INTERRUPTED_AFTER, ACCURACY = 60, 0.95


def test_training_reaches_95_percent_and_resumes(tmp_path, digits):
    """An interrupted training on the device goes on, and classifies at least 95 % of the test digits."""
    out = tmp_path / "net.safetensors"
    with pytest.raises(KeyboardInterrupt):
        rb.train(out=out, progress=StopAfter(INTERRUPTED_AFTER), device="cuda", **OPTIONS)
    trained = rb.train(out=out, resume=True, device="cuda", **OPTIONS)
    assert trained.header.training["epochs_done"] == OPTIONS["epochs"]
    summary = rb.score(out, digits.subset(len(digits)), device="cuda").summary
    assert summary["accuracy"].iloc[0] >= ACCURACY


def test_a_run_goes_on_where_it_stopped(tmp_path, digits):
    """Cells that are stored are read, lost ones are made again, with the same decisions."""
    data, folder = digits.subset(30), tmp_path / "run"
    call = {"eps": [0.03, 0.06], "steps": 4, "eot_draws": 4, "score_draws": 8, "device": "cuda"}
    call["out"] = folder
    first = rb.attack(CHECKPOINT, data, "pgd", **call)
    lost = sorted(folder.glob("records/*.parquet"))[-1]
    lost.unlink()
    again = rb.attack(CHECKPOINT, data, "pgd", **call)
    for row in range(len(first.summary)):
        before, after = first.records_of(row), again.records_of(row)
        assert before["prediction"].equals(after["prediction"])
        pd.testing.assert_frame_equal(before, after, check_exact=False, rtol=1e-4, atol=1e-4)


def test_the_forecast_of_memory_holds():
    """A gradient with as many rows as are forecast for 2 GB takes no more, and at least an eighth."""
    model = network("cifar").with_compute(Compute("cuda", graphs=False))
    limit = 2 * 10**9
    torch.cuda.empty_cache()
    rows = rows_that_fit(model, limit)
    assert rows * bytes_per_row(model) <= limit
    images = images_for(model, rows)
    torch.cuda.reset_peak_memory_stats()
    victim(model, images).gradient(images, 0)
    assert limit / 8 < torch.cuda.max_memory_allocated() < limit


def test_after_a_real_out_of_memory_the_batch_is_halved(tmp_path, digits):
    """A process that may take a hundredth of the card fails with 16,384 rows, and ends with fewer alike."""
    data = digits.subset(200)
    source = Source.of(CHECKPOINT, data)
    attack = make_attack("pgd", eps=0.06, steps=2, eot_draws=64)
    runs = {}
    torch.cuda.empty_cache()
    for name, rows in (("small", 1024), ("large", 16384)):
        folder = RunFolder(tmp_path / name)
        cells = [Cell(source, attack, ScoreSettings(draws=8, rows=rows))]
        share = 1.0 if name == "small" else (torch.cuda.memory_reserved() + 10**9) / _card()
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            runs[name] = run_cells(Work.of(cells, data), folder, compute=Compute("cuda"))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert runs["large"].summary["status"].tolist() == ["ok"]
    halved = RunFolder(tmp_path / "large").read_manifest()["batch_size"]
    assert halved["asked"] == 16384
    assert halved["perturbing"] < 16384
    large, small = (runs[name].summary["accuracy"].item() for name in ("large", "small"))
    assert large == pytest.approx(small, abs=2 / 200)


def _card():
    return torch.cuda.get_device_properties(0).total_memory


def test_two_tasks_of_ray_share_the_gpu(tmp_path, digits):
    """Half a GPU a task: the tables are those of the local engine."""
    ray = pytest.importorskip("ray")
    from robustbench_sde.runs.cluster.ray import RayEngine

    data = digits.subset(16)
    attack = make_attack("pgd", eps=0.06, steps=3, eot_draws=4)
    cells = [Cell(Source.of(CHECKPOINT, data), attack, ScoreSettings(draws=8))]
    ray.init("local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        engine = RayEngine(device="cuda", gpus_per_task=0.5, shard_images=8)
        shared = run_cells(Work.of(cells, data), RunFolder(tmp_path / "ray"), engine=engine)
    finally:
        ray.shutdown()
    local = run_cells(Work.of(cells, data), RunFolder(tmp_path / "local"), compute=Compute("cuda"))
    assert shared.summary["status"].tolist() == ["ok"]
    assert shared.summary["accuracy"].item() == pytest.approx(local.summary["accuracy"].item(), abs=1 / 16)


def test_nccl_gives_the_gradient_of_one_process(monkeypatch):
    """DistributedDataParallel over NCCL, with one process in it, has the gradients of the plain objective."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    data = make_data(8)
    config = TrainConfig(noise="multiplicative", sigma=0.3, epochs=1, batch_size=8, steps=2)
    batch = data.images.cuda() / 255, data.labels.cuda(), data.ids
    models = [make_model().to("cuda").requires_grad_(True) for _ in range(2)]
    objective(models[0], config, *batch, 0)[0].backward()
    dist.init_process_group("nccl", rank=0, world_size=1)
    try:
        team = Team(0, 1, "cuda:0")
        monkeypatch.setattr(team, "size", 2)  # else it would compute alone
        team.steps(models[1], config)(*batch, 0)[0].backward()
        assert team.sums(1.5, 2.0) == [1.5, 2.0]
    finally:
        dist.destroy_process_group()
    for alone, together in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(alone.grad, together.grad, rtol=1e-4, atol=1e-6)


def foolbox_pgd(net, images, labels):
    """foolbox's PGD."""
    import foolbox

    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1))
    return foolbox.attacks.LinfPGD(steps=5, rel_stepsize=0.25)(wrapped, images, labels, epsilons=0.2)[1]


def torchattacks_pgd(net, images, labels):
    """torchattacks' PGD."""
    torchattacks = pytest.importorskip("torchattacks")
    return torchattacks.PGD(net, eps=0.2, alpha=0.05, steps=5)(images, labels)


@pytest.mark.parametrize("attack", [foolbox_pgd, torchattacks_pgd])
def test_other_libraries_attack_our_classifier_on_the_device(attack):
    """Their images, made on the GPU, stay in the ball and fool it more often than clean ones do."""
    model = make_model().to("cuda")
    data = make_data(12)
    data = replace(data, labels=torch.tensor(rb.score(model, data).records["prediction"].to_numpy()))
    adversarial = attack(model.as_module(draws=4), data.images.cuda() / 255, data.labels.cuda())
    assert adversarial.is_cuda
    result = rb.score(model, data, adversarial.cpu(), norm="linf", eps=0.2)
    assert result.summary["accuracy"].iloc[-1] < 0.7 < result.summary["accuracy"].iloc[0]
