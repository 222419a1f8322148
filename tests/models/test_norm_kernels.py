"""The kernel of GroupNorm and ReLU against torch's operations."""

import pytest
import torch
import torch.nn.functional as F
from kernels import DEVICE, MARKS
from torch import nn

from robustbench_sde.models.kernels.group_norm import group_norm

pytestmark = MARKS


def problem(shape, groups, offset, seed=0):
    """States, a norm with random weights, an offset or None, and a gradient."""
    generator = torch.Generator().manual_seed(seed)
    norm = nn.GroupNorm(groups, shape[1]).requires_grad_(False)
    norm.weight.copy_(torch.randn(shape[1], generator=generator))
    norm.bias.copy_(torch.randn(shape[1], generator=generator))
    shift = None if offset is None else torch.randn(shape[1 : 1 + offset], generator=generator).to(DEVICE)
    x, g = (3 * torch.randn(shape, generator=generator).to(DEVICE) for _ in range(2))
    return x.requires_grad_(), norm.to(DEVICE), shift, g


def plain(x, norm, shift, relu):
    """Compute GroupNorm and ReLU by torch's operations, in double precision."""
    x = x.double() if shift is None else x.double() + shift.double().view(-1, *(shift.shape[1:] or (1, 1)))
    end = F.group_norm(x, norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps)
    return (F.relu(end) if relu else end).float()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("offset", [None, 1, 3])
@pytest.mark.parametrize(
    ("shape", "groups", "rounding"),
    [
        ((5, 8, 5, 3), 2, 1e-5),
        ((3, 12, 8, 8), 3, 1e-5),
        ((1, 32, 16, 16), 2, 1e-5),
        ((2, 4, 1, 1), 4, 1e-3),  # groups of one entry: terms of 1 / sqrt(eps) = 316 cancel
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_states_and_gradients_are_those_of_torch(shape, groups, rounding, offset, relu, layout):
    """ReLU(GN(x + offset)) and its first and second derivatives agree to rounding, in either layout."""
    x, norm, shift, g = problem(shape, groups, offset)
    x = x.detach().contiguous(memory_format=layout).requires_grad_()
    end, expected = group_norm(x, norm, relu=relu, offset=shift), plain(x, norm, shift, relu)
    assert end.is_contiguous(memory_format=layout)
    assert torch.allclose(end, expected, rtol=1e-5, atol=1e-5)
    (wanted,) = torch.autograd.grad(expected, x, g, retain_graph=True)
    (found,) = torch.autograd.grad(end, x, g, retain_graph=True)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=rounding)
    u = g.clone().requires_grad_()
    found, wanted = (
        torch.autograd.grad(torch.autograd.grad(of, x, u, create_graph=True)[0], u, torch.ones_like(x))[0]
        for of in (end, expected)
    )
    assert torch.allclose(found, wanted, rtol=1e-4, atol=10 * rounding)


def test_what_is_not_finite_stays_so():
    """A row with NaN has NaN in its group and nowhere else, as torch's norm has."""
    x, norm, _, _ = problem((3, 8, 4, 4), 2, None)
    with torch.no_grad():
        x[1, 5, 2, 2] = torch.nan
    end = group_norm(x, norm, relu=True)
    assert bool(end[1, 4:].isnan().all())
    assert bool(end[0].isfinite().all() & end[2].isfinite().all() & end[1, :4].isfinite().all())


def test_reduced_states_are_normalised_in_single_precision():
    """bfloat16 in and out rounds twice and computes in float32: within a unit in the last place."""
    x, norm, _, g = problem((4, 8, 8, 8), 2, None)
    low = x.detach().bfloat16().requires_grad_()
    end = group_norm(low, norm, relu=True, dtype=torch.bfloat16)
    assert end.dtype == torch.bfloat16
    expected = plain(low.detach().float(), norm, None, True)
    assert torch.allclose(end.float(), expected, rtol=2**-7, atol=1e-5)
    (found,) = torch.autograd.grad(end, low, g.bfloat16())
    assert found.dtype == torch.bfloat16
