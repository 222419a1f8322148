"""Training by several processes: the steps of one, an end together, a state to go on from."""

import os
import socket
import time
from functools import partial

import pytest
import torch
from forked import finished, sde_bench

from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.header import read_header
from robustbench_sde.training.distributed import Team

pytestmark = pytest.mark.slow

#: 1437 images in batches of 479: shares of 240 and 239; in batches of 718 the last one is a single image
OPTIONS = ("--noise", "multiplicative", "--sigma", "0.3", "--steps", "1", "--lr", "0.02")


def train(size, out, *options):
    """Start the program in `size` processes, as `torchrun` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(size):
        cwd = out.parent / f"{out.stem}-{rank}"
        cwd.mkdir(exist_ok=True)
        arguments = ("train", *OPTIONS, "--out", out, "--device", "cpu", "--quiet", *options)
        processes.append(sde_bench(*arguments, cwd=cwd, before=partial(be, rank, size, port)))
    return processes


def be(rank, size, port):
    """Become one of the processes that `torchrun` starts."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def lonely():
    """Become a process that is told of another one, but not which it is."""
    os.environ["WORLD_SIZE"] = "2"


def ends(processes):
    """Exit codes, once all have ended."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def weights(path):
    return load_checkpoint(path).state_dict()


def distance(first, second):
    """The largest difference of a weight, of the largest weight."""
    assert first.keys() == second.keys()
    largest = max(float(tensor.abs().max()) for tensor in second.values())
    return max(float((first[name] - second[name]).abs().max()) for name in first) / largest


def test_a_size_without_a_rank_is_one_line(tmp_path):
    """Variables that `torchrun` did not set."""
    ended = finished("train", *OPTIONS, "--quiet", cwd=tmp_path, before=lonely)
    assert ended.code == 2
    assert ended.stderr == "sde-bench: WORLD_SIZE is 2, RANK is not set: start it with torchrun\n"


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (2, ("--batch-size", "479")),
        (2, ("--batch-size", "718", "--adversarial", "trades", "--adversarial-steps", "1")),
    ],
    ids=["uneven", "empty-share"],
)
def test_several_processes_take_the_steps_of_one(tmp_path, size, options):
    """Several processes with equal noise and batches get the weights of one, but for rounding."""
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    assert ends(train(1, alone, *options, "--epochs", "2")) == [0]
    assert ends(train(size, together, *options, "--epochs", "2")) == [0] * size
    assert 0 < distance(weights(together), weights(alone)) < 2e-5
    first, second = (read_header(path).training for path in (alone, together))
    assert second["final_loss"] == pytest.approx(first["final_loss"], abs=2e-4)
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == [
        ".csv",
        ".csv",
        ".safetensors",
        ".safetensors",
    ]


def test_one_that_is_stopped_stops_all_and_they_go_on(tmp_path):
    """SIGTERM to one: a usable checkpoint, exit 130 for all, --resume to the bits of a whole training."""
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    options = ("--batch-size", "120")
    assert ends(train(2, whole, *options, "--epochs", "3")) == [0, 0]
    processes = train(2, stopped, *options, "--epochs", "3")
    while not stopped.exists():
        time.sleep(0.01)
    processes[1].terminate()
    assert ends(processes) == [130, 130]
    assert "interrupted" in read_header(stopped).training
    assert ends(train(2, stopped, "--resume", *options, "--epochs", "3")) == [0, 0]
    first, second = weights(whole), weights(stopped)
    assert all(torch.equal(first[name], second[name]) for name in first)
    processes = train(2, stopped, "--force", *options, "--epochs", "300")
    while not stopped.with_name("stopped.state.safetensors").exists():
        time.sleep(0.01)
    processes[1].kill()
    assert ends(processes) == [2, -9]
    assert "another process of the training has died" in (tmp_path / "stopped-0" / "stderr.txt").read_text()


@pytest.mark.parametrize(("count", "size"), [(7, 2), (8, 3), (2, 4)])
def test_shares_make_up_the_batch(count, size):
    """Every image once; weighted means of shares are the mean of the batch."""
    batch = torch.arange(10, 10 + count)
    shares = [Team(rank, size).share(batch) for rank in range(size)]
    assert torch.cat([own for own, weight in shares if weight]).equal(batch)
    assert all(len(own) for own, _ in shares)
    means = [weight * own.double().mean() for own, weight in shares]
    assert float(sum(means)) / size == pytest.approx(float(batch.double().mean()))
