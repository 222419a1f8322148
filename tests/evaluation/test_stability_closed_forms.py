"""Exponents against closed forms.

Every comparison with randomness allows 4 standard errors, a false alarm in 16,000 of it; seeds are fixed.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_model

from robustbench_sde.evaluation.stability.condition import condition_of, mixed_noise_share
from robustbench_sde.evaluation.stability.exponent import Growth, largest_exponent, tangent_growth
from robustbench_sde.evaluation.stability.lipschitz import drift_constants
from robustbench_sde.evaluation.stability.report import Agreement, Estimate
from robustbench_sde.evaluation.statistics import mean_interval
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.sde.diffusion import Additive, Dropout, Jump, Multiplicative
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream
from robustbench_sde.sde.integrate import Equation
from robustbench_sde.sde.solvers import SOLVERS, Solver

DRAWS = Draws(0, Stream.AUDIT)


def noisy(kind, sigma: float, paths: int, shape: tuple[int, ...], steps: int) -> list:
    """One term and its Brownian paths, one image a path."""
    term = kind(sigma)
    return [(term, BrownianPaths(DRAWS, range(paths), shape, steps=steps, law=term.law))]


def growth_of(equation: Equation, paths: int, *shape: int) -> Growth:
    """Growth of a random tangent vector a path, in double precision."""
    generator = torch.Generator().manual_seed(0)
    h0, tangent = torch.randn(2, 1, paths, *shape, generator=generator, dtype=torch.float64)
    return tangent_growth(h0, [equation], tangent)


def near(values: torch.Tensor, truth: float) -> bool:
    """Whether the mean of independent values is within 4 of its standard errors of the truth."""
    error = float(values.std()) / math.sqrt(values.numel())
    return abs(float(values.mean()) - truth) <= 4 * error + 1e-9


def mean_log(sigma: float, dt: float) -> float:
    """E log |1 + dt + sigma sqrt(dt) z| / dt, by quadrature: what Euler-Maruyama makes of 1 - sigma^2 / 2."""
    z = np.linspace(-9, 9, 2_000_001)
    weights = np.exp(-z * z / 2)
    return float(np.average(np.log(np.abs(1 + dt + sigma * math.sqrt(dt) * z)), weights=weights)) / dt


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.8])
def test_scalar_geometric_brownian_motion(sigma):
    """dx = x dt + sigma x dB: 1 - sigma^2 / 2, so that sigma = 2.8 dies out where the ODE explodes.

    250 steps are compared with their own exact mean, and that with the closed form as steps shrink. Standard
    error sigma / sqrt(2000) = 0.063 at 2.8; the error of 250 steps is 0.2 there, of 10,000 steps 0.005.
    """
    equation = Equation(
        lambda t, x: x, noisy(Multiplicative, sigma, 2000, (1,), 250), 1.0, 250, SOLVERS["euler"]
    )
    growth = growth_of(equation, 2000, 1)
    assert near(growth.exponent, mean_log(sigma, 1 / 250))
    assert mean_log(sigma, 1e-4) == pytest.approx(1 - sigma**2 / 2, abs=0.01)
    assert torch.allclose(growth.drift, torch.ones(()).double())
    assert torch.allclose(growth.noise, torch.tensor(-(sigma**2) / 2).double())


@pytest.mark.parametrize(
    ("rate", "sigma"), [(1.0, 0.0), (1.0, 2.8), (-0.7, 0.5)], ids=["ode", "additive", "ornstein-uhlenbeck"]
)
def test_additive_noise_cancels(rate, sigma):
    """dx = a x dt + sigma dB has the exponent a, whatever sigma; an Ornstein-Uhlenbeck process -theta."""
    equation = Equation(
        lambda t, x: rate * x, noisy(Additive, sigma, 3, (4,), 1000), 2.0, 1000, SOLVERS["euler"]
    )
    growth = growth_of(equation, 3, 4)
    assert torch.allclose(growth.exponent, torch.full_like(growth.exponent, math.log1p(rate / 500) * 500))
    assert torch.allclose(growth.exponent, torch.tensor(rate).double(), atol=2e-3)
    assert torch.equal(growth.noise, torch.zeros_like(growth.noise))


@pytest.mark.parametrize(("sigma", "agreement"), [(2.0, Agreement.AGREES), (1.0, Agreement.SILENT)])
def test_the_condition_on_a_system_that_fulfils_it(sigma, agreement):
    """dh = A h dt + sigma h dB with one scalar dB and A a rotation's: L = 1, mu = 0, exponent -sigma^2 / 2.

    sigma = 2 fulfils the condition; sigma = 1 does not, and contracts all the same: the condition is not
    necessary. Standard errors 0.09 and 0.045; a false alarm needs 11 of them.
    """
    turn = torch.zeros(16, 16, dtype=torch.float64)
    turn[range(8), range(8, 16)], turn[range(8, 16), range(8)] = 1.0, -1.0
    noise = noisy(Multiplicative, sigma, 500, (1,), 200)
    equation = Equation(lambda t, h: h @ turn, noise, 1.0, 200, SOLVERS["euler"])
    exponent = mean_interval(growth_of(equation, 500, 16).exponent[0].numpy())
    start = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    constants = drift_constants(start, [replace(equation, noise=[], steps=1)], start)
    scalar = make_model(noise=(NoiseSpec(kind="multiplicative", sigma=sigma, shape="scalar"),))
    condition = condition_of(
        scalar,
        Estimate(*exponent, math.nan, math.nan),
        lipschitz=float(constants.lipschitz.max()),
        one_sided=float(constants.one_sided.max()),
        state=(16, 1, 1),
    )
    assert condition.one_sided == pytest.approx(0, abs=1e-9)
    assert condition.bound == pytest.approx(1 - sigma**2 / 2)
    assert condition.agreement == agreement


class MixedSplitting(Solver):
    """Exact solution of dh = L h dt + sigma h dB over a step, then a fresh rotation of all entries."""

    def __init__(self, rate: float) -> None:
        self.rate, self.generator = rate, torch.Generator().manual_seed(1)

    def step(self, f, t, h, dt, noise=()):
        ((term, z),) = noise
        grown = h * ((self.rate - term.sigma**2 / 2) * dt + term.sigma * math.sqrt(dt) * z.double()).exp()
        size = h[0, 0].numel()
        rotation = torch.linalg.qr(torch.randn(size, size, generator=self.generator, dtype=torch.float64))[0]
        return (grown.flatten(2) @ rotation).view_as(h)


@pytest.mark.parametrize(
    ("state", "motions", "sigma", "truth"),
    [
        ((2,), (2,), 1.0, 0.75),
        ((16,), (16,), 1.0, 1 + 0.5 * (1 - 6 / 18)),
        ((64,), (64,), 1.0, 1 + 0.5 * (1 - 6 / 66)),
        ((64,), (1,), 1.0, 0.5),
        ((4, 4), (4, 1), 1.0, 1 + 0.5 - 6 / 18),
        ((1,), (1,), 2.8, 1 - 2.8**2 / 2),
    ],
    ids=["d=2", "d=16", "d=64", "d=64, scalar", "d=16, channels of 4", "d=1"],
)
def test_the_shape_of_the_noise_decides(state, motions, sigma, truth):
    """L + (sigma^2 / 2)(1 - 6 / (d + 2)) for a Brownian motion an entry, L - sigma^2 / 2 for one in all.

    One for each m of the d entries: L + sigma^2 (1/2 - (m + 2) / (d + 2)), which has both as its ends.
    dh = h dt + sigma h dB with mixing by rotations, 100 paths to T = 6; standard errors 0.035, 0.017, 0.0087,
    0.041, 0.024 and 0.11. The step of 0.02 is off by at most 0.004.
    """
    noise = noisy(Multiplicative, sigma, 100, motions, 300)
    growth = growth_of(Equation(lambda t, h: h, noise, 6.0, 300, MixedSplitting(1.0)), 100, *state)
    assert near(growth.exponent, truth)
    assert near(growth.noise, truth - 1)
    entries = math.prod(state)
    share = mixed_noise_share(sigma**2, entries, entries // math.prod(motions))
    assert share == pytest.approx(truth - 1)


def test_dropout_noise_on_a_linear_drift():
    """If f = a h, dropout of sigma is multiplicative noise of sigma a: the same share of the exponent."""
    steps, rate, sigma = 200, -1.5, 0.6
    growths = [
        growth_of(
            Equation(
                lambda t, h: rate * h, noisy(kind, scale, 50, (8,), steps), 1.0, steps, SOLVERS["euler"]
            ),
            50,
            8,
        )
        for kind, scale in ((Dropout, sigma), (Multiplicative, sigma * rate))
    ]
    assert torch.allclose(growths[0].exponent, growths[1].exponent)
    assert torch.allclose(growths[0].noise, growths[1].noise)


def test_jumps_have_no_ito_share():
    """The exponent of a jump process is measured like any other; its noise share is unknown, not 0."""
    growth = growth_of(
        Equation(lambda t, h: -h, noisy(Jump, 0.5, 5, (8,), 10), 1.0, 10, SOLVERS["euler"]), 5, 8
    )
    assert growth.exponent.isfinite().all()
    assert growth.noise.isnan().all()


def test_parts_sum_to_the_exponent():
    """Drift and noise shares make up the exponent but for a mean-zero rest (150 paths, N = 400)."""
    weights = torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    noise = noisy(Multiplicative, 0.8, 150, (6,), 400)
    growth = growth_of(
        Equation(lambda t, h: torch.tanh(h @ weights), noise, 1.0, 400, SOLVERS["euler"]), 150, 6
    )
    rest = growth.exponent - growth.drift - growth.noise
    assert near(rest, 0.0)
    assert (
        float(rest.std()) < 0.8
    )  # the martingale alone: sigma times the root of the sum of u_i^4, below 0.8


def test_constants_of_a_linear_drift():
    """L is the largest singular value; mu, of the symmetric part the largest eigenvalue, may be negative."""
    matrix = torch.randn(10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for shift in (0.0, 20.0):
        a = matrix - shift * torch.eye(10, dtype=torch.float64)
        equations = [Equation(lambda t, h, a=a: h @ a.T, [], 0.1, 2, SOLVERS["euler"])] * 2
        start = torch.randn(1, 3, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        constants = drift_constants(start, equations, start)
        assert constants.lipschitz.shape == (4, 1, 3)
        truth = torch.linalg.matrix_norm(a, 2)
        assert torch.allclose(constants.lipschitz, truth)
        symmetric = torch.linalg.eigvalsh((a + a.T) / 2)[-1]
        assert torch.allclose(constants.one_sided, symmetric)
        assert (shift > 0) == (float(symmetric) < 0)


def test_the_direction_that_grows_most():
    """dh = A h dt grows most by the largest singular value of (1 + A dt)^N, above any random direction."""
    a = torch.randn(7, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    equation = Equation(lambda t, h: h @ a.T, [], 2.0, 20, SOLVERS["euler"])
    start = torch.randn(1, 4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    end = torch.linalg.matrix_power(torch.eye(7, dtype=torch.float64) + a / 10, 20)
    largest = largest_exponent(start, [equation], start)
    assert torch.allclose(largest, torch.linalg.matrix_norm(end, 2).log() / 2)
    assert (tangent_growth(start, [equation], start).exponent < largest).all()
