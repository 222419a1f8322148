"""One step of each solver, and its orders.

Gradients go through the discrete steps. There are no adjoint methods: their gradients differ from those of
the discrete solution that scores an image, which makes an attack weaker (docs/protocol.md).

The formulas hold whether entries share a Brownian motion or not, because an entry of an additive or
multiplicative G depends only on this entry of h. For dropout G is proportional to f, which mixes entries: a
higher order than that of `euler` would need derivatives of the network, and Levy areas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from robustbench_sde.errors import BenchError, unknown_name
from robustbench_sde.sde.diffusion import NOISE_TERMS, Multiplicative, NoiseTerm
from robustbench_sde.sde.keyed import Numbers, made

if TYPE_CHECKING:
    from torch import Tensor

#: drift f(t, h), which returns the shape of h; rows are independent of each other
Drift: TypeAlias = Callable[[float, "Tensor"], "Tensor"]
#: the terms of the noise, each with its numbers of this step
StepNoise: TypeAlias = Sequence[tuple[NoiseTerm, Numbers]]


class Solver(ABC):
    """A numerical scheme: its orders, the noise that it supports, and its step."""

    #: global order without noise; None where the error is set by a tolerance
    order: ClassVar[int | None]
    #: (strong, weak) order with noise, by kind; a combination has the lowest, and strong order 1/2.
    #: Empty for a solver of ODEs
    noise_orders: ClassVar[dict[str, tuple[float, float]]] = {}
    #: whether several terms may act at once; solvers of ODEs have none to say it of
    combines: ClassVar[bool]
    #: warning that a table must show for numbers of this solver
    warning: ClassVar[str] = ""

    @abstractmethod
    def step(self, f: Drift, t: float, h: Tensor, dt: float, noise: StepNoise = ()) -> Tensor:
        """Return the state at t + dt from the state `h` (draws or 1, images, ...) at t."""


class Euler(Solver):
    """Euler-Maruyama with noise, Euler without (Kloeden & Platen 1992, 10.2)."""

    order = 1
    noise_orders: ClassVar = {kind: term.euler_orders for kind, term in NOISE_TERMS.items()}
    combines = True

    def step(self, f: Drift, t: float, h: Tensor, dt: float, noise: StepNoise = ()) -> Tensor:
        drift = f(t, h)
        if not noise:
            return h.add(drift, alpha=dt)
        (term, z), *others = noise
        new = term.advance(h, drift, t, z, dt)
        for term, z in others:
            new = term.add_noise(new, t, h, drift, made(z), dt)
        return new


class Milstein(Euler):
    """Euler-Maruyama with G G' (dB^2 - dt) / 2, for one term (Kloeden & Platen 1992, 10.3)."""

    noise_orders: ClassVar = {"additive": (1.0, 1.0), "multiplicative": (1.0, 1.0)}
    combines = False

    def step(self, f: Drift, t: float, h: Tensor, dt: float, noise: StepNoise = ()) -> Tensor:
        numbers = [(term, made(z)) for term, z in noise]  # which serve twice
        new = super().step(f, t, h, dt, numbers)
        for term, z in numbers:
            if isinstance(term, Multiplicative):
                new = new + term.sigma_at(t) ** 2 * h * (z * z - 1) * (dt / 2)
        return new


class Heun(Solver):
    """Trapezoidal, explicit, two drifts a step; with noise it solves the same Ito equation.

    With noise it is the stochastic Heun scheme, which solves Stratonovich equations (Rumelin 1982): given the
    drift f - G G' / 2, it solves the Ito equation of the other solvers.
    """

    order = 2
    noise_orders: ClassVar = {"additive": (1.0, 2.0), "multiplicative": (1.0, 1.0)}
    combines = True

    def step(self, f: Drift, t: float, h: Tensor, dt: float, noise: StepNoise = ()) -> Tensor:
        numbers = [(term, made(z)) for term, z in noise]  # which serve twice
        first = self._increment(f, t, h, dt, numbers)
        second = self._increment(f, t, h + first, dt, numbers, at=t + dt)
        return h + (first + second) / 2

    def _increment(
        self,
        f: Drift,
        t: float,
        h: Tensor,
        dt: float,
        noise: Sequence[tuple[NoiseTerm, Tensor]],
        at: float | None = None,
    ) -> Tensor:
        at = t if at is None else at
        drift = f(at, h)
        change = drift * dt
        for term, z in noise:
            if isinstance(term, Multiplicative):
                change = change - term.sigma_at(at) ** 2 * h * (dt / 2)
            change = term.add_noise(change, at, h, drift, z, dt)
        return change


class Midpoint(Solver):
    """Explicit midpoint, two drifts a step; ODEs only."""

    order = 2

    def step(self, f: Drift, t: float, h: Tensor, dt: float, noise: StepNoise = ()) -> Tensor:
        middle = h.add(f(t, h), alpha=dt / 2)
        return h.add(f(t + dt / 2, middle), alpha=dt)


class RungeKutta4(Solver):
    """Kutta's 3/8 rule, four drifts a step, the `rk4` of torchdiffeq; ODEs only."""

    order = 4

    def step(self, f: Drift, t: float, h: Tensor, dt: float, noise: StepNoise = ()) -> Tensor:
        k1 = f(t, h)
        k2 = f(t + dt / 3, h + k1 * (dt / 3))
        k3 = f(t + dt * 2 / 3, h + (k2 - k1 / 3) * dt)
        k4 = f(t + dt, h + (k1 - k2 + k3) * dt)
        return h + (k1 + 3 * (k2 + k3) + k4) * (dt / 8)


class DormandPrince5(Solver):
    """Adaptive Dormand-Prince between the N points of the grid (rtol 1e-5, atol 1e-6); ODEs only.

    The implementation is that of torchdiffeq. All rows of a batch share one step size, which depends on the
    error of the whole batch, and gradients go through this choice. `Classifier.logits` therefore gives each
    image its own pass.
    """

    order = None
    warning = (
        "dopri5 chooses its steps by an error: each image has a pass of its own, so that no image acts on "
        "another, and gradients may be masked; attack through a fixed-step solver"
    )

    def step(self, f: Drift, t: float, h: Tensor, dt: float, noise: StepNoise = ()) -> Tensor:
        try:
            from torchdiffeq import odeint
        except ImportError as error:
            raise BenchError(
                "solver dopri5 needs torchdiffeq: pip install 'robustbench-sde[ode]', or choose rk4"
            ) from error
        import torch

        times = torch.tensor([t, t + dt], device=h.device, dtype=torch.promote_types(h.dtype, torch.float32))
        solution: Tensor = odeint(
            lambda time, state: f(float(time.detach()), state),
            h,
            times,
            rtol=1e-5,
            atol=1e-6,
            method="dopri5",
        )
        return solution[-1]


#: Solvers by name.
SOLVERS: dict[str, Solver] = {
    "euler": Euler(),
    "milstein": Milstein(),
    "heun": Heun(),
    "midpoint": Midpoint(),
    "rk4": RungeKutta4(),
    "dopri5": DormandPrince5(),
}


def accepts_noise(name: str, kinds: Sequence[str]) -> bool:
    """Whether the solver called `name` takes noise of these kinds, all at once."""
    solver = SOLVERS[name]
    return not kinds or (set(kinds) <= solver.noise_orders.keys() and (solver.combines or len(kinds) < 2))


def check_solver(name: str, kinds: Sequence[str]) -> None:
    """Check that a solver supports noise of these kinds together.

    Raises:
        BenchError: there is no such solver, or it does not support them; the message names solvers that do.
    """
    if name not in SOLVERS:
        raise unknown_name("solver", name, SOLVERS)
    if not accepts_noise(name, kinds):
        fitting = [other for other in SOLVERS if accepts_noise(other, kinds)]
        what = "does not take" if SOLVERS[name].noise_orders else "solves ODEs only and does not take"
        raise BenchError(
            f"solver {name} {what} {'+'.join(kinds)} noise; "
            f"choose {' or '.join(fitting)}, or switch the noise off"
        )
