"""Solvers against closed forms and torchsde."""

import math

import numpy as np
import pytest
import torch
import torchsde

from robustbench_sde.sde.diffusion import DIFFUSIONS
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream
from robustbench_sde.sde.solvers import solve

MU, SIGMA, T, X0 = 0.5, 0.8, 1.0, 1.0


def geometric_brownian_motion(steps: int, fine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Euler-Maruyama with `steps` steps and the exact end, of dx = mu x dt + sigma x dB on the same paths.

    fine: (paths, N) standard normals of the finest grid.
    """
    coarse = fine.unflatten(1, (steps, -1)).sum(2) / math.sqrt(fine.shape[1] / steps)
    normals = [z[None, :, None] for z in coarse.unbind(1)]
    x0 = torch.full((1, len(fine), 1), X0, dtype=torch.float64)
    end = solve(lambda t, x: MU * x, DIFFUSIONS["multiplicative"](SIGMA), x0, normals, horizon=T, steps=steps)
    path_end = fine.sum(1) / math.sqrt(fine.shape[1]) * math.sqrt(T)
    return end[0, :, 0], X0 * torch.exp((MU - SIGMA**2 / 2) * T + SIGMA * path_end)


def test_strong_order_is_one_half():
    """The mean error at the end falls like dt^(1/2) on geometric Brownian motion (slope within 0.07)."""
    fine = torch.from_numpy(np.random.default_rng(0).standard_normal((20_000, 256)))
    grids = [4, 8, 16, 32, 64, 128]
    errors = []
    for steps in grids:
        end, exact = geometric_brownian_motion(steps, fine)
        errors.append(float((end - exact).abs().mean()))
    slope = -np.polyfit(np.log(grids), np.log(errors), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.07)


def test_weak_order_is_one():
    """The error of the mean falls like dt: (1 + mu dt)^N against e^(mu T), within 4 standard errors."""
    fine = torch.from_numpy(np.random.default_rng(1).standard_normal((200_000, 32)))
    errors = []
    for steps in (1, 2, 4):
        end, exact = geometric_brownian_motion(steps, fine)
        difference = end - exact  # common paths: a control variate with known mean
        error = float(difference.mean())
        truth = X0 * ((1 + MU * T / steps) ** steps - math.exp(MU * T))
        assert error == pytest.approx(truth, abs=4 * float(difference.std()) / math.sqrt(len(difference)))
        errors.append(truth)
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.5)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.3)


def test_euler_has_order_one_without_noise():
    """Halving the step of dx = x dt halves the error."""
    errors = []
    for steps in (64, 128):
        one = torch.ones(1, 1, 1, dtype=torch.float64)
        end = solve(lambda t, x: x, None, one, None, horizon=1.0, steps=steps)
        errors.append(math.e - float(end))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.02)


def test_time_is_exact():
    """Step i happens at i T / N: a drift that sums the times hits every one, N = 50 included."""
    times = []

    def drift(t, x):
        times.append(t)
        return x

    solve(drift, None, torch.ones(1, 1, 1), None, horizon=1.0, steps=50)
    assert times == [i / 50 for i in range(50)]


@pytest.mark.parametrize("kind", sorted(DIFFUSIONS))
def test_agrees_with_torchsde_on_the_same_increments(kind):
    """End states differ from torchsde's Euler by less than 1e-5, for every diffusion term."""
    steps, draws, images, size = 10, 3, 4, 6
    diffusion = DIFFUSIONS[kind](0.7)
    weights = torch.linspace(-1, 1, size * size).view(size, size)
    normals = list(BrownianPaths(Draws(0, Stream.SCORE, range(draws)), range(images), (size,), steps=steps))

    def drift(t, h):
        return torch.tanh(h @ weights) + t

    class Increments(torchsde.BaseBrownian):
        """Hands torchsde the increments of our paths."""

        dtype, device, shape = torch.float32, torch.device("cpu"), (draws * images, size)
        levy_area_approximation = "none"

        def __call__(self, ta, tb=None, **_):
            step = round(float(ta) * steps)
            return normals[step].flatten(0, 1) * math.sqrt(1 / steps)

        def __repr__(self):
            return "Increments()"

    class Sde(torch.nn.Module):
        """The same equation, in torchsde's words."""

        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, h):
            return drift(float(t), h)

        def g(self, t, h):
            return diffusion.g(float(t), h, drift(float(t), h))

    start = torch.randn(1, images, size, generator=torch.Generator().manual_seed(0))
    ours = solve(drift, diffusion, start, normals, horizon=1.0, steps=steps)
    h0 = start.expand(draws, -1, -1).flatten(0, 1)
    theirs = torchsde.sdeint(
        Sde(), h0, torch.tensor([0.0, 1.0]), bm=Increments(), method="euler", dt=1 / steps
    )[-1]
    assert torch.allclose(ours.flatten(0, 1), theirs, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(DIFFUSIONS))
def test_fused_update_is_the_formula(kind):
    """`add_noise` equals base + G sqrt(dt) z."""
    generator = torch.Generator().manual_seed(0)
    base, h, drift, z = torch.randn(4, 2, 3, 4, generator=generator).unbind(0)
    diffusion = DIFFUSIONS[kind](0.3)
    fused = diffusion.add_noise(base, h, drift, z, 0.5)
    assert torch.allclose(fused, base + diffusion.g(0.0, h, drift) * 0.5 * z, atol=1e-6)


def test_variance_of_additive_noise_is_sigma_squared_t():
    """Without drift, h(T) - h(0) is N(0, sigma^2 T): variance within 5 standard errors on 50,000 entries."""
    h0 = torch.zeros(1, 1, 50_000)
    normals = BrownianPaths(Draws(0, Stream.SCORE), [0], (50_000,), steps=7)
    end = solve(lambda t, h: 0 * h, DIFFUSIONS["additive"](0.6), h0, normals, horizon=2.0, steps=7)
    assert float(end.var()) == pytest.approx(0.72, abs=5 * 0.72 * math.sqrt(2 / 50_000))
