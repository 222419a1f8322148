"""Gradients that compute states again: the same bits in less memory."""

import math

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from robustbench_sde.sde.diffusion import Jump, Multiplicative
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream
from robustbench_sde.sde.integrate import solve
from robustbench_sde.sde.solvers import SOLVERS


def gradients(steps: int, solver: str, recompute: bool) -> tuple[list[torch.Tensor], int]:
    """End and gradients (of h0, a weight and sigma), and the most drifts that were alive at any drift."""
    seen: list[StorageWeakRef] = []
    most = 0
    h0 = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = (torch.linspace(-1, 1, 16).view(4, 4)).requires_grad_()
    sigma = torch.tensor(0.5, requires_grad=True)
    draws = Draws(0, Stream.ATTACK, range(2))
    noise = [(Multiplicative(sigma), BrownianPaths(draws, range(3), (4,), steps=steps))]
    if solver == "euler":
        jump = Jump(0.1, rate=1.0)
        noise.append((jump, BrownianPaths(draws, range(3), (4,), steps=steps, site=1, law=jump.law)))

    def drift(t, h):
        nonlocal most
        out = torch.tanh(h @ weights + t)  # tanh keeps its result for the gradient
        seen.append(StorageWeakRef(out.untyped_storage()))
        most = max(most, sum(not storage.expired() for storage in seen))
        return out

    end = solve(drift, h0, noise, horizon=1.0, steps=steps, solver=SOLVERS[solver], recompute=recompute)
    found = torch.autograd.grad(end.square().sum(), [h0, weights, sigma])
    return [end.detach(), *found], most


@pytest.mark.parametrize("solver", ["euler", "milstein", "heun"])
@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_gradients_are_the_same_bits(solver, steps):
    """End and gradients agree bit for bit with ordinary backpropagation: noise is redrawn, not changed."""
    plain, _ = gradients(steps, solver, recompute=False)
    again, _ = gradients(steps, solver, recompute=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("steps", [16, 64, 256])
def test_memory_grows_like_the_square_root(steps):
    """At most sqrt(N) steps are held at once (2 more in passing); without recomputation all N are."""
    assert gradients(steps, "euler", recompute=False)[1] == steps
    assert gradients(steps, "euler", recompute=True)[1] <= math.isqrt(steps) + 2
