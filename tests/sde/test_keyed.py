"""Devices with kernels, and parameters that every noise stores."""

import pytest
import torch

from robustbench_sde.sde import keyed, philox
from robustbench_sde.sde.diffusion import NOISE_TERMS
from robustbench_sde.sde.keyed import KeyedNumbers, KeyedRows


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda", 0), "cpu", torch.device("meta")])
def test_kernels_are_for_cuda_where_one_runs(monkeypatch, runs, device):
    """Any spelling of a CUDA device has kernels if one runs; no other device has, whatever runs."""
    monkeypatch.setattr(keyed, "_kernels_run", lambda device: runs)
    assert keyed.has_kernels(device) is (runs and "cuda" in str(device))


def test_rows_and_numbers_are_equal_to_themselves_alone():
    """They hold tensors of a device, whose values no comparison reads."""
    rows, same = (KeyedRows.of(philox.key(0, "score", "path"), range(2), [1, 2], "cpu") for _ in range(2))
    assert torch.equal(rows.table, same.table)
    numbers, again, others = (KeyedNumbers(each, (2, 2, 16), 0, 0) for each in (rows, rows, same))
    assert rows == rows != same
    assert numbers == numbers != again != others


def test_only_the_rate_of_jumps_is_stored_with_every_noise():
    """Checkpoints of the first format hold a rate with each term; parameters of later kinds are their own."""
    stored = {
        name
        for term in NOISE_TERMS.values()
        for name, parameter in term.parameters.items()
        if parameter.stored_by_all
    }
    others = {name for term in NOISE_TERMS.values() for name in term.parameters} - stored
    assert (stored, others) == ({"rate"}, {"alpha"})
