"""How much memory gradients take, and batches that fit into it."""

import gc
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from builders import make_model, save_digits_model

import robustbench_sde as rb
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models import memory
from robustbench_sde.models.compute import Compute, parse_bytes
from robustbench_sde.models.memory import bytes_of_images, bytes_per_row, rows_that_fit
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.runs import worker
from robustbench_sde.runs.cells import Cell
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.worker import Worker
from robustbench_sde.sde import heap

#: prints by how much the peak of a process grows when a gradient of 96 rows follows one of a single row,
#: and the forecast for it
PROBE = """
import re, sys
from pathlib import Path
import torch
from builders import make_model
from robustbench_sde.models.memory import _SHARE, bytes_per_row
from robustbench_sde.sde.heap import keep_freed_memory
from robustbench_sde.sde.draws import Draws, Stream

keep_freed_memory()
model = make_model(sys.argv[1], features=32, height=32, width=32, steps=16)

def peak():  # in KiB; of this program alone, while ru_maxrss begins with that of whoever started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def gradient(rows):
    images = torch.rand(rows, 1, 32, 32, requires_grad=True)
    torch.autograd.grad(model.logits(images, range(rows), Draws(0, Stream.ATTACK)).sum(), images)

gradient(1)
before = peak()
gradient(96)
print(peak() - before)
print(95 * bytes_per_row(model) / _SHARE / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["multiplicative", "none"])
def test_a_gradient_takes_no_more_than_the_forecast(request, kind):
    """The peak of a process grows by less than is forecast for 95 rows more, and by a quarter at least."""
    command = [sys.executable, "-c", PROBE, kind]
    environment = {"PYTHONPATH": ":".join(["tests", *sys.path]), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        command, cwd=request.config.rootpath, env=environment, capture_output=True, text=True, check=True
    )
    grown, forecast = map(float, finished.stdout.split())
    assert forecast / 4 < grown < forecast


@pytest.mark.parametrize("known", [True, False])
def test_glibc_is_told_to_keep_a_gibibyte(known, monkeypatch):
    """The heap keeps up to 1 GiB, and takes blocks of up to 64 MiB; another C library is left alone."""
    asked = {}

    def mallopt(option, value):
        asked[option] = value

    library = SimpleNamespace(mallopt=mallopt) if known else SimpleNamespace()
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: library)
    heap.keep_freed_memory()
    heap.return_freed_memory()
    trim_threshold, mmap_threshold = -1, -3  # of <malloc.h>
    assert asked == ({trim_threshold: 2**30, mmap_threshold: 2**26} if known else {})


def test_what_a_row_keeps_is_linear_in_steps():
    """Twice the steps, twice the graph, but for stem and head."""
    few, many, more = (bytes_per_row(make_model(steps=steps)) for steps in (4, 8, 12))
    assert many - few == more - many > 0


@pytest.mark.parametrize("bytes_", [10**9, 10**5, 10])
def test_rows_are_a_power_of_two_that_fits(monkeypatch, bytes_):
    """Half of the budget, and never less than a row."""
    monkeypatch.setattr(memory, "memory_budget", lambda device, limit: bytes_)
    monkeypatch.setattr(memory, "bytes_per_row", lambda model: 20_000)
    fitting = rows_that_fit(make_model())
    assert fitting & (fitting - 1) == 0
    assert fitting == 1 or fitting * 20_000 <= bytes_ / 2 < 2 * fitting * 20_000


def test_a_limit_below_what_the_process_has_leaves_one_row():
    """There is always a pass, be it of one row; without a limit what is free counts."""
    assert rows_that_fit(make_model(), 10**6) == 1
    assert rows_that_fit(make_model()) > 100


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), (" 1.5 GiB", 3 * 2**29), ("800MB", 8 * 10**8), ("1TB", 10**12)]
)
def test_sizes_are_read(text, size):
    """Decimal and binary units."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["2", "GB", "-1GB", "2 gb", "1e9B"])
def test_other_sizes_are_refused(text):
    """The message has an example of what to write."""
    with pytest.raises(BenchError, match=r"`memory_limit` .*write 2GB"):
        parse_bytes(text)


def test_a_worker_batches_by_its_memory_limit(tmp_path, monkeypatch, digits):
    """An attack on 256 draws sees no pass of more rows than fit, and its records are those of one batch."""
    data = digits.subset(2)
    source = Source.of(save_digits_model(tmp_path / "m.safetensors"), data)
    cell = Cell(source, make_attack("pgd", eps=0.1, steps=1, eot_draws=256), ScoreSettings(draws=4, rows=256))
    whole = Worker(data, Compute()).attempt(cell)
    seen = []
    logits = type(make_model()).logits

    def noted(model, images, ids, draws):
        seen.append(len(images) * len(draws))
        return logits(model, images, ids, draws)

    monkeypatch.setattr("robustbench_sde.runs.worker.rows_that_fit", lambda model, limit, share: limit)
    monkeypatch.setattr(type(make_model()), "logits", noted)
    limited = Worker(data, Compute(memory_limit=16)).attempt(cell)
    assert max(seen) == 16
    assert limited.records["prediction"].tolist() == whole.records["prediction"].tolist()
    assert limited.records["margin"].tolist() == pytest.approx(whole.records["margin"].tolist(), abs=1e-4)


def test_asking_for_the_bytes_of_a_row_leaves_no_graph():
    """A process that loads a thousand checkpoints keeps the graph of none of them."""

    def tensors():
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    model = make_model()
    bytes_per_row(model)
    before = tensors()
    assert [bytes_per_row(model) for _ in range(3)] == [bytes_per_row(model)] * 3
    assert tensors() == before


class Loose(torch.nn.Module):
    """Somebody's network, of which nothing is known."""

    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(1024, 10)

    def forward(self, x):
        return self.last(x.flatten(1))


def test_images_that_do_not_fit_are_refused_in_one_line(digits, monkeypatch):
    """The line says how much an attack takes and how much there is; scoring takes less."""
    need = bytes_of_images((1, 32, 32), 4, is_attack=True)
    monkeypatch.setattr(worker, "memory_budget", lambda device, limit: need - 1)
    with pytest.raises(
        BenchError, match=r"pgd takes about .* GB for 4 images of 1x32x32, and there are .* GB"
    ):
        rb.attack(Loose().eval(), digits.subset(8), eps=0.1, steps=1, score_draws=1)
    assert len(rb.score(Loose().eval(), digits.subset(8), score_draws=1).summary) == 1
    monkeypatch.setattr(worker, "memory_budget", lambda device, limit: need)
    assert len(rb.attack(Loose().eval(), digits.subset(8), eps=0.1, steps=1, score_draws=1).summary) == 3


def test_large_images_come_in_smaller_batches(digits, monkeypatch):
    """A batch of a network that is not ours has as many images as fit, and one at least."""
    model = rb.as_classifier(Loose().eval(), digits)
    whole = 4 * bytes_of_images((1, 32, 32), 1, is_attack=True)
    for budget, rows in ((9 * whole, 8), (whole, 1), (1, 1), (None, None)):
        monkeypatch.setattr(memory, "memory_budget", lambda device, limit, budget=budget: budget)
        assert rows_that_fit(model) == rows
