"""The stability of a classifier: exponent, drift constants, condition, and real perturbations."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from robustbench_sde.data import ImageDataset, to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.evaluation.cell import CellResult, evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.stability.condition import condition_of
from robustbench_sde.evaluation.stability.distance import Chains, distances
from robustbench_sde.evaluation.stability.exponent import largest_exponent, tangent_growth
from robustbench_sde.evaluation.stability.lipschitz import drift_constants
from robustbench_sde.evaluation.stability.report import Course, Estimate, StabilityReport
from robustbench_sde.evaluation.statistics import mean_interval, mean_over_draws
from robustbench_sde.models.protocol import RandomClassifier
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean, Perturbation
from robustbench_sde.perturbations.corruptions import make_corruptions
from robustbench_sde.progress import Bars, Progress
from robustbench_sde.sde.draws import Draws, KeyedRandom, Stream
from robustbench_sde.sde.integrate import Equation

#: Number of paths for each image along which the drift's constants are measured; they hardly depend on it.
CONSTANT_PATHS = 2


@dataclass(frozen=True)
class StabilitySettings:
    """Number of paths, and scoring, of a measurement of stability."""

    #: Brownian paths for each image; a model without noise has one
    paths: int = 8
    #: scoring of accuracies; seed and rows are used for all other parts, too
    score: ScoreSettings = field(default_factory=ScoreSettings)

    def __post_init__(self) -> None:
        if self.paths < 1:
            raise BenchError(f"`paths` is {self.paths}; it must be at least 1")


@dataclass(frozen=True)
class _Flows:
    """Measurements on flows that follow one another; (..., draws, images) float64, on the CPU."""

    log: Tensor
    drift: Tensor
    noise: Tensor
    largest: Tensor
    lipschitz: Tensor
    one_sided: Tensor

    @classmethod
    def joined(cls, parts: Sequence["_Flows"]) -> "_Flows":
        """Join the measurements of several batches of images."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts], -1) for f in fields(cls)))


def perturbations_to_follow(
    norm: str,
    eps: float | None,
    *,
    steps: int,
    eot_draws: int,
    corruptions: str,
    severities: Sequence[int],
    family: str | None,
) -> list[Perturbation]:
    """Make the perturbations that are followed through a flow: a random point of a ball, pgd, corruptions.

    Args:
        norm: norm of the ball, `linf` or `l2`.
        eps: radius of the ball for images in [0, 1]; None: 0.03 for linf and 0.5 for l2.
        steps: steps of pgd.
        eot_draws: draws in each gradient of pgd.
        corruptions: names, as for `make_corruptions`.
        severities: whole numbers from 1 to 5.
        family: parameters of the severities, as for `make_corruptions`.

    Raises:
        BenchError: an argument is wrong.
    """
    budget = eps if eps is not None else 0.5 if norm == "l2" else 0.03
    return [
        make_attack("noise", norm=norm, eps=budget, restarts=1),
        make_attack("pgd", norm=norm, eps=budget, steps=steps, eot_draws=eot_draws),
        *make_corruptions(corruptions, severities, family=family),
    ]


def stability(
    model: RandomClassifier,
    data: ImageDataset,
    perturbations: Sequence[Perturbation],
    settings: StabilitySettings | None = None,
    *,
    sha256: str = "",
    key: str = "",
    bars: Bars | None = None,
) -> StabilityReport:
    """Measure how neighbouring states of a classifier drift apart, beside what theory predicts.

    All Brownian paths are of the `audit` stream, which no perturbation has seen. Where flows stand side by
    side, the exponent with its parts is that of the flow whose mean exponent is the largest, and the
    constants of the drift are the largest of all.

    Args:
        model: classifier.
        data: images.
        perturbations: perturbations to follow through the flow, like those of `perturbations_to_follow`; each
            is made, verified and scored as in a table.
        settings: number of paths and scoring; None: the defaults.
        sha256: hash of the model's checkpoint, for the report.
        key: hash by which the report is found again.
        bars: progress of the parts of the work, and of images.

    Returns:
        Estimates with their intervals, exponents per unit of the flow's time (docs/stability.md).

    Raises:
        BenchError: the data do not fit the model, or it is not one of ours, whose flow can be looked into.
        InvalidEvaluationError: a perturbed image is not valid, or states are not finite.
    """
    inside = model.built_in
    if inside is None:
        raise BenchError(f"{model.name} has no flow to measure; stability takes checkpoints of `train`")
    settings, bars = settings or StabilitySettings(), bars or Bars()
    started = time.perf_counter()
    bars.cells.start("stability", len(perturbations) + 2)
    cells = []
    for perturbation in (Clean(), *perturbations):
        bars.images.start(perturbation.label, len(data))
        cells.append(evaluate(model, data, perturbation, settings.score, progress=bars.images))
        bars.cells.advance(1)
    paths = settings.paths if model.stochastic else 1
    draws = Draws(settings.score.seed, Stream.AUDIT, range(paths))
    images = [to_float(data.images), *(cell.images for cell in cells[1:])]
    bars.images.start("trajectories", len(data))
    (norm, *moved), flows = _trajectories(
        model.name,
        model.chains,
        [same.to(model.device) for same in images],
        data.ids,
        draws,
        settings.score.rows,
        bars.images,
    )
    bars.cells.advance(1)
    first = model.chains(images[0][:1].to(model.device), data.ids[:1], draws)
    times, state = _times(first[0][1]), tuple(first[0][0].shape[2:])
    top = max(flows, key=lambda flow: float(flow.log[-1].mean()))
    lipschitz = torch.stack([flow.lipschitz for flow in flows]).amax(0)
    one_sided = torch.stack([flow.one_sided for flow in flows]).amax(0)
    exponent = _estimate(top.log[-1] / times[-1])
    return StabilityReport(
        checkpoint=model.name,
        sha256=sha256,
        key=key,
        dataset=data.name,
        images=len(data),
        paths=paths,
        seed=settings.score.seed,
        noise=model.noise,
        noise_shape="+".join(term.shape for term in inside.spec.active_noise),
        sigma=model.sigma,
        solver=inside.solver,
        steps=inside.steps,
        times=times,
        exponent=exponent,
        drift_part=_estimate(top.drift),
        noise_part=_estimate(top.noise),
        largest=_estimate(top.largest),
        growth=tuple(map(_estimate, top.log)),
        lipschitz=_estimate(lipschitz.mean(0)),
        one_sided=_estimate(one_sided.mean(0)),
        condition=condition_of(
            inside,
            exponent,
            lipschitz=float(lipschitz.max()),
            one_sided=float(one_sided.max()),
            state=state,
        ),
        **_accuracy(cells[0]),
        perturbations=tuple(
            _course(cell, distance, norm, times[-1]) for cell, distance in zip(cells[1:], moved, strict=True)
        ),
        seconds=time.perf_counter() - started,
    )


@torch.no_grad()
def _trajectories(
    name: str,
    chains: Chains,
    images: Sequence[Tensor],
    ids: Tensor,
    draws: Draws,
    rows: int,
    progress: Progress,
) -> tuple[Tensor, list[_Flows]]:
    """Return `distances` of all images, and the measurements along the clean ones, chain by chain."""
    apart, parts = [], []
    size = max(1, rows // len(draws))
    for start in range(0, len(ids), size):
        piece = slice(start, start + size)
        here = [same[piece] for same in images]
        found = distances(chains, here, ids[piece], draws).cpu()
        if not found.isfinite().all():
            raise InvalidEvaluationError(f"states of {name} are not finite: use more steps or less noise")
        apart.append(found)
        clean = chains(here[0], ids[piece], draws)
        parts.append([_along(h0, equations, ids[piece], draws) for h0, equations in clean])
        progress.advance(len(here[0]))
    return torch.cat(apart, -1), [_Flows.joined(chain) for chain in zip(*parts, strict=True)]


def _along(h0: Tensor, equations: Sequence[Equation], ids: Tensor, draws: Draws) -> _Flows:
    """Measure a chain of flows; random directions are keyed by image and draw, as paths are."""
    h0 = h0.expand(len(draws), *h0.shape[1:])
    random = KeyedRandom(draws.seed, Stream.AUDIT, "stability")
    start = torch.stack([random.normals(ids, h0.shape[2:], draw=draw) for draw in draws.indices]).to(h0)
    growth = tangent_growth(h0, equations, start)
    largest = largest_exponent(h0, equations, start)
    constants = drift_constants(h0, equations, start[:CONSTANT_PATHS])
    measured = (growth.log, growth.drift, growth.noise, largest, *constants)
    return _Flows(*(values.cpu() for values in measured))


def _times(equations: Sequence[Equation]) -> tuple[float, ...]:
    """Return 0 and the end of every step of equations that follow one another."""
    before = [0.0, *accumulate(equation.horizon for equation in equations)]
    ends = [
        start + step * equation.horizon / equation.steps
        for start, equation in zip(before, equations, strict=False)
        for step in range(1, equation.steps + 1)
    ]
    return 0.0, *ends


def _course(cell: CellResult, distance: Tensor, norm: Tensor, time: float) -> Course:
    """Describe one perturbation, from its cell and |h(x + e) - h(x)|, |h(x)|: (steps + 1, draws, images)."""
    changed = (distance[0] > 0).all(0)
    distance, norm = distance[..., changed], norm[..., changed]
    return Course(
        perturbation=str(cell.row["perturbation"]),
        norm=str(cell.row["norm"]),
        eps=float(cell.row["eps"]),
        severity=float(cell.row["severity"]),
        changed=int(changed.sum()),
        relative=tuple(_estimate(values) for values in distance / norm),
        rate=_estimate((distance[-1] / distance[0]).log() / time),
        **_accuracy(cell),
    )


def _estimate(values: Tensor) -> Estimate:
    """Estimate the mean of (draws, images) values; all NaN without values, NaN limits for a single one."""
    if not values.numel():
        return Estimate(*[math.nan] * 5)
    numbers = values.numpy()
    over_images, over_paths = mean_interval(numbers.mean(0)), mean_over_draws(numbers)
    return Estimate(*over_images, over_paths.low, over_paths.high)


def _accuracy(cell: CellResult) -> dict[str, Any]:
    return {name: float(cell.row[name]) for name in ("accuracy", "accuracy_low", "accuracy_high")}
