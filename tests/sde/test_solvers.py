"""Solvers against closed forms, torchsde and torchdiffeq."""

import itertools
import math
import sys

import numpy as np
import pytest
import torch
import torchsde
from scipy.stats import kstest, norm
from torchdiffeq import odeint

from docs.make_pages import noise_page
from robustbench_sde.errors import BenchError
from robustbench_sde.sde.diffusion import NOISE_TERMS, Additive, Diffusion, Jump, Multiplicative
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream
from robustbench_sde.sde.integrate import Equation, solve
from robustbench_sde.sde.solvers import SOLVERS, check_solver

DRAWS = Draws(0, Stream.SCORE)
MU, SIGMA, T, X0 = 0.5, 0.8, 1.0, 1.0
WITH_NOISE = [name for name, solver in SOLVERS.items() if solver.noise_orders]
DIFFUSIONS = [name for name, term in NOISE_TERMS.items() if issubclass(term, Diffusion)]
FIXED_STEP = [name for name, solver in SOLVERS.items() if solver.order]


def slope(grids: list[int], errors: list[float]) -> float:
    """The order with which errors fall."""
    return -float(np.polyfit(np.log(grids), np.log(errors), 1)[0])


def geometric_brownian_motion(
    solver: str, steps: int, fine: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The solver's end in `steps` steps and the exact one, of dx = mu x dt + sigma x dB on the same paths.

    fine: (paths, N) standard normals of the finest grid.
    """
    coarse = fine.unflatten(1, (steps, -1)).sum(2) / math.sqrt(fine.shape[1] / steps)
    normals = [z[None, :, None] for z in coarse.unbind(1)]
    x0 = torch.full((1, len(fine), 1), X0, dtype=torch.float64)
    noise = [(Multiplicative(SIGMA), normals)]
    end = solve(lambda t, x: MU * x, x0, noise, horizon=T, steps=steps, solver=SOLVERS[solver])
    path_end = fine.sum(1) / math.sqrt(fine.shape[1]) * math.sqrt(T)
    return end[0, :, 0], X0 * torch.exp((MU - SIGMA**2 / 2) * T + SIGMA * path_end)


@pytest.mark.parametrize("solver", WITH_NOISE)
def test_strong_order_on_geometric_brownian_motion(solver):
    """The mean error at the end falls with the order that the solver states (slope within 0.1)."""
    fine = torch.from_numpy(np.random.default_rng(0).standard_normal((20_000, 256)))
    grids = [4, 8, 16, 32, 64, 128]
    errors = []
    for steps in grids:
        end, exact = geometric_brownian_motion(solver, steps, fine)
        errors.append(float((end - exact).abs().mean()))
    assert slope(grids, errors) == pytest.approx(SOLVERS[solver].noise_orders["multiplicative"][0], abs=0.1)


def test_weak_order_is_one():
    """The error of the mean falls like dt: (1 + mu dt)^N against e^(mu T), within 4 standard errors."""
    fine = torch.from_numpy(np.random.default_rng(1).standard_normal((200_000, 32)))
    errors = []
    for steps in (1, 2, 4):
        end, exact = geometric_brownian_motion("euler", steps, fine)
        difference = end - exact  # common paths: a control variate with known mean
        error = float(difference.mean())
        truth = X0 * ((1 + MU * T / steps) ** steps - math.exp(MU * T))
        assert error == pytest.approx(truth, abs=4 * float(difference.std()) / math.sqrt(len(difference)))
        errors.append(truth)
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.5)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.3)


def second_moment(solver: str, steps: int, terms: list) -> float:
    """E x(T)^2 of the solver on dx = mu x dt + noise, by Gauss-Hermite quadrature: no sampling error.

    The equation is linear, so that a step maps (E x, E x^2) linearly; its polynomials in z are of degree 4.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    grid = torch.tensor(list(itertools.product(nodes, repeat=len(terms))))
    weight = torch.from_numpy(np.prod(list(itertools.product(weights, repeat=len(terms))), axis=1))
    weight = weight / weight.sum()
    first, second, dt = X0, X0**2, T / steps
    for step in range(steps):
        numbers = [(term, z[None, :, None]) for term, z in zip(terms, grid.unbind(1), strict=True)]
        at = [
            SOLVERS[solver]
            .step(lambda t, x: MU * x, step * dt, torch.full((1, 1, 1), x, dtype=torch.float64), dt, numbers)
            .flatten()
            for x in (0.0, 1.0)
        ]
        rest, factor = at[0], at[1] - at[0]
        mean = lambda values: float((values * weight).sum())  # noqa: E731
        first, second = (
            mean(rest) + mean(factor) * first,
            mean(rest**2) + 2 * mean(rest * factor) * first + mean(factor**2) * second,
        )
    return second


@pytest.mark.parametrize(
    ("solver", "kinds"),
    [(name, (kind,)) for name in WITH_NOISE for kind in ("additive", "multiplicative")]
    + [("euler", ("additive", "multiplicative")), ("heun", ("additive", "multiplicative"))],
)
def test_weak_order_of_the_second_moment(solver, kinds):
    """E x^2 converges to the Ito solution with the weak order stated, combinations of terms included.

    d E[x^2] = ((2 mu + b^2) E[x^2] + a^2) dt for dx = mu x dt + a dB1 + b x dB2.
    """
    a, b = SIGMA * ("additive" in kinds), SIGMA * ("multiplicative" in kinds)
    rate = 2 * MU + b**2
    exact = X0**2 * math.exp(rate * T) + a**2 * math.expm1(rate * T) / rate
    grids = [64, 128, 256]
    terms = [NOISE_TERMS[kind](SIGMA) for kind in kinds]
    errors = [abs(second_moment(solver, steps, terms) - exact) for steps in grids]
    order = min(SOLVERS[solver].noise_orders[kind][1] for kind in kinds)
    assert slope(grids, errors) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("solver", FIXED_STEP)
def test_order_without_noise(solver):
    """The error on dx = x cos(t) dt, x = exp(sin t), falls with the order stated; stage times count."""
    grids = [8, 16, 32, 64]
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = []
    for steps in grids:
        end = solve(lambda t, x: x * math.cos(t), one, horizon=1.5, steps=steps, solver=SOLVERS[solver])
        errors.append(abs(float(end) - math.exp(math.sin(1.5))))
    assert slope(grids, errors) == pytest.approx(SOLVERS[solver].order, abs=0.15)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2"), ("rk4", "rk4")]
)
def test_agrees_with_torchdiffeq(ours, theirs):
    """Equal steps on one grid: less than 1e-12 apart in double precision."""
    weights = torch.linspace(-2, 2, 36, dtype=torch.float64).view(6, 6)
    h0 = torch.linspace(-1, 1, 12, dtype=torch.float64).view(1, 2, 6)
    grid = torch.linspace(0, 1, 6, dtype=torch.float64)
    theirs = odeint(lambda t, h: torch.tanh(h @ weights + t), h0, grid, method=theirs)[-1]
    ours = solve(lambda t, h: torch.tanh(h @ weights + t), h0, horizon=1.0, steps=5, solver=SOLVERS[ours])
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_adaptive_steps_are_accurate_whatever_the_grid():
    """dopri5 (rtol 1e-5) in one or three grid steps is within 1e-4, and says what is wrong with it."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    for steps in (1, 3):
        end = solve(lambda t, x: x * math.cos(t), one, horizon=1.5, steps=steps, solver=SOLVERS["dopri5"])
        assert float(end) == pytest.approx(math.exp(math.sin(1.5)), abs=1e-4)
    assert "each image has a pass of its own" in SOLVERS["dopri5"].warning


def test_a_missing_torchdiffeq_is_one_sentence(monkeypatch):
    """Without the extra, dopri5 says what to install."""
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(BenchError, match=r"robustbench-sde\[ode\]"):
        solve(lambda t, x: x, torch.ones(1, 1, 1), horizon=1.0, steps=1, solver=SOLVERS["dopri5"])


def test_time_is_exact():
    """Step i happens at i T / N: a drift that sums the times hits every one, N = 50 included."""
    times = []

    def drift(t, x):
        times.append(t)
        return x

    solve(drift, torch.ones(1, 1, 1), horizon=1.0, steps=50)
    assert times == [i / 50 for i in range(50)]


@pytest.mark.parametrize(
    ("method", "kind"),
    [("euler", kind) for kind in DIFFUSIONS]
    + [(method, kind) for method in ("milstein", "heun") for kind in ("additive", "multiplicative")],
)
def test_agrees_with_torchsde_on_the_same_increments(method, kind):
    """End states differ from torchsde's by less than 1e-5; its Heun is given the Stratonovich drift."""
    steps, draws, images, size = 10, 3, 4, 6
    diffusion = NOISE_TERMS[kind](0.7)
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
        """An equation in torchsde's words."""

        noise_type, sde_type = "diagonal", "stratonovich" if method == "heun" else "ito"

        def f(self, t, h):
            correction = 0.7**2 * h / 2 if (method, kind) == ("heun", "multiplicative") else 0
            return drift(float(t), h) - correction

        def g(self, t, h):
            return diffusion.g(float(t), h, drift(float(t), h))

    start = torch.randn(1, images, size, generator=torch.Generator().manual_seed(0))
    ours = solve(drift, start, [(diffusion, normals)], horizon=1.0, steps=steps, solver=SOLVERS[method])
    h0 = start.expand(draws, -1, -1).flatten(0, 1)
    theirs = torchsde.sdeint(
        Sde(), h0, torch.tensor([0.0, 1.0]), bm=Increments(), method=method, dt=1 / steps
    )[-1]
    assert torch.allclose(ours.flatten(0, 1), theirs, atol=1e-5)


@pytest.mark.parametrize("kind", DIFFUSIONS)
@pytest.mark.parametrize("learned", [False, True])
def test_fused_update_is_the_formula(kind, learned):
    """`add_noise` equals base + G sqrt(dt) z, whether sigma is a number or a tensor, at any time."""
    generator = torch.Generator().manual_seed(0)
    base, h, drift, z = torch.randn(4, 2, 3, 4, generator=generator).unbind(0)
    diffusion = NOISE_TERMS[kind](torch.tensor(0.3) if learned else 0.3, growth=3.0, horizon=2.0)
    fused = diffusion.add_noise(base, 0.5, h, drift, z, 0.25)
    assert float(diffusion.sigma_at(0.5)) == pytest.approx(0.45)
    assert torch.allclose(fused, base + diffusion.g(0.5, h, drift) * 0.5 * z, atol=1e-6)


def test_variance_of_additive_noise_is_sigma_squared_t():
    """Without drift, h(T) - h(0) is N(0, sigma^2 T): variance within 5 standard errors on 50,000 entries."""
    h0 = torch.zeros(1, 1, 50_000)
    normals = BrownianPaths(Draws(0, Stream.SCORE), [0], (50_000,), steps=7)
    end = solve(lambda t, h: 0 * h, h0, [(Additive(0.6), normals)], horizon=2.0, steps=7)
    assert float(end.var()) == pytest.approx(0.72, abs=5 * 0.72 * math.sqrt(2 / 50_000))


def test_variance_follows_sigma_of_t():
    """The variance with sigma(t) from 0.6 to 1.2 is the integral of sigma^2, 1.68 (5 standard errors)."""
    h0 = torch.zeros(1, 1, 50_000)
    normals = BrownianPaths(Draws(0, Stream.SCORE), [0], (50_000,), steps=50)
    noise = [(Additive(0.6, growth=2.0, horizon=2.0), normals)]
    end = solve(lambda t, h: 0 * h, h0, noise, horizon=2.0, steps=50, solver=SOLVERS["heun"])
    assert float(end.var()) == pytest.approx(1.68, abs=5 * 1.68 * math.sqrt(2 / 50_000))


def test_jumps_have_their_rate_size_and_fair_sign():
    """rate 2, sigma 0.5, 10 steps over T = 1: a compound of +-50 % with the counts of the binomial law."""
    entries = 100_000
    jump = Jump(0.5, rate=2.0)
    path = BrownianPaths(Draws(0, Stream.SCORE), [0], (entries,), steps=10, law=jump.law)
    h0 = torch.ones(1, 1, entries, dtype=torch.float64)
    end = solve(lambda t, h: 0 * h, h0, [(jump, path)], horizon=1.0, steps=10)
    untouched = float((end == 1).double().mean())
    assert untouched == pytest.approx(0.8**10, abs=5 * math.sqrt(0.8**10 / entries))
    assert float(end.mean()) == pytest.approx(1, abs=5 * float(end.std()) / math.sqrt(entries))
    second, spread = float(end.square().mean()), float(end.square().std())
    assert second == pytest.approx((1 + 0.2 * 0.25) ** 10, abs=5 * spread / math.sqrt(entries))


@pytest.mark.parametrize("solver", WITH_NOISE)
def test_shared_noise_is_noise_that_is_repeated(solver):
    """One Brownian motion for all entries of an image gives what equal motions for each entry give."""
    paths = BrownianPaths(Draws(0, Stream.SCORE, range(2)), range(3), (1, 1), steps=4)
    repeated = [z.expand(-1, -1, 5, 6) for z in paths]
    h0 = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    options = {"horizon": 1.0, "steps": 4, "solver": SOLVERS[solver]}
    shared = solve(lambda t, h: -h, h0, [(Multiplicative(0.9), paths)], **options)
    assert torch.allclose(shared, solve(lambda t, h: -h, h0, [(Multiplicative(0.9), repeated)], **options))


@pytest.mark.parametrize(
    ("solver", "kinds", "message"),
    [
        ("eulr", (), "did you mean 'euler'"),
        ("rk4", ("additive",), "ODEs only .* choose euler or milstein or heun, or switch the noise off"),
        ("dopri5", ("multiplicative",), "ODEs only"),
        ("heun", ("dropout",), "does not take dropout noise; choose euler, or"),
        ("milstein", ("additive", "multiplicative"), "choose euler or heun"),
        ("heun", ("additive", "jump"), r"additive\+jump noise; choose euler, or"),
    ],
)
def test_a_solver_that_does_not_fit_names_those_that_do(solver, kinds, message):
    """The error says which schemes take which noise."""
    with pytest.raises(BenchError, match=message):
        check_solver(solver, kinds)


#: Kinds of noise that each solver takes, as docs/models.md says.
TAKEN = {
    "euler": set(NOISE_TERMS),
    "milstein": {"additive", "multiplicative"},
    "heun": {"additive", "multiplicative"},
    "midpoint": set(),
    "rk4": set(),
    "dopri5": set(),
}


@pytest.mark.parametrize("kind", NOISE_TERMS)
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_takes_its_kinds_of_noise_and_no_other(name, kind):
    """A kind in the table moves the state of a solve; any other is refused, with the solvers that take it."""
    check_solver(name, ())
    if kind not in TAKEN[name]:
        with pytest.raises(BenchError, match=f"does not take {kind} noise; choose .*euler"):
            check_solver(name, (kind,))
        return
    check_solver(name, (kind,))
    term, h0 = NOISE_TERMS[kind](0.5), torch.ones(1, 3, 40)
    path = BrownianPaths(
        Draws(0, Stream.SCORE, range(2)), range(3), (40,), steps=4, law=term.law, words=term.words
    )
    ends = [
        solve(lambda t, h: torch.tanh(h), h0, noise, horizon=1.0, steps=4, solver=SOLVERS[name])
        for noise in ([], [(term, path)])
    ]
    assert ends[1].isfinite().all()
    assert (ends[1] - ends[0]).abs().amax(-1).min() > 1e-3


def test_the_steps_of_an_equation_are_its_solution():
    """Walking step by step, wherever one starts, ends where `solve` does, bit for bit."""
    paths = BrownianPaths(Draws(0, Stream.SCORE, range(2)), range(3), (5,), steps=4)
    equation = Equation(
        lambda t, h: torch.tanh(h) + t, [(Multiplicative(0.9), paths)], 2.0, 4, SOLVERS["heun"]
    )
    h = h0 = torch.linspace(-1, 1, 15).view(1, 3, 5)
    steps = [*equation.walk(0, 1), *equation.walk(1)]
    for step in steps:
        h = step(h)
    assert [step.t for step in steps] == [step.t for step in equation.walk()] == [0.0, 0.5, 1.0, 1.5]
    assert torch.equal(h, equation.solve(h0))


@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.9])
def test_levy_noise_has_the_characteristic_function_of_its_law(alpha):
    """E cos(u X) = exp(-(sigma |u|)^alpha T / 2) at the end of a solve, in steps of any number."""
    for steps in (1, 8):
        term, size = NOISE_TERMS["levy"](0.7, alpha=alpha), 40_000
        path = BrownianPaths(DRAWS, [0], (size,), steps=steps, law=term.law, words=term.words)
        end = solve(lambda t, h: 0 * h, torch.zeros(1, 1, size), [(term, path)], horizon=2.0, steps=steps)
        assert end.isfinite().all()
        for u in (0.3, 1.0, 2.0):
            expected = math.exp(-((0.7 * u) ** alpha) * 2.0 / 2)
            error = math.sqrt((1 + math.exp(-((1.4 * u) ** alpha)) - 2 * expected**2) / 2 / size)
            assert float((u * end.double()).cos().mean()) == pytest.approx(expected, abs=5 * error)


def test_levy_noise_with_alpha_2_is_additive_noise_in_law():
    """The end of a solve follows N(0, sigma^2 T): Kolmogorov-Smirnov, p above 1e-3; alpha 1.7 fails that."""
    size, p = 40_000, {}
    for alpha in (2.0, 1.7):
        term = NOISE_TERMS["levy"](0.7, alpha=alpha)
        path = BrownianPaths(DRAWS, [0], (size,), steps=4, law=term.law, words=term.words)
        end = solve(lambda t, h: 0 * h, torch.zeros(1, 1, size), [(term, path)], horizon=2.0, steps=4)
        p[alpha] = kstest(end.flatten().numpy(), norm(0, 0.7 * math.sqrt(2)).cdf).pvalue
    assert p[2.0] > 1e-3 > p[1.7]


def test_levy_numbers_are_keyed():
    """A step, an image or a draw asked for alone has the numbers of the whole."""
    term = NOISE_TERMS["levy"](0.7)
    options = {"steps": 5, "law": term.law, "words": term.words}
    whole = torch.stack(list(BrownianPaths(Draws(0, Stream.SCORE, range(4)), [3, 8], (11,), **options)))
    part = torch.stack(list(BrownianPaths(Draws(0, Stream.SCORE, range(2, 3)), [8], (11,), **options)[2:4]))
    assert torch.equal(part, whole[2:4, 2:3, 1:])


def test_the_page_of_noise_is_that_of_the_classes(request):
    """docs/noise.md is what `make tables` writes from the kinds of noise."""
    assert (request.config.rootpath / "docs" / "noise.md").read_text() == noise_page()
