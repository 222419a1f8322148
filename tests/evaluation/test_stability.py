"""Stability of networks: products with their Jacobians, distances, the condition and the report."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from builders import make_data, make_model

from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.stability.analysis import (
    StabilitySettings,
    perturbations_to_follow,
    stability,
)
from robustbench_sde.evaluation.stability.condition import condition_of
from robustbench_sde.evaluation.stability.distance import distances
from robustbench_sde.evaluation.stability.linear import Linearised, largest_eigenvalue
from robustbench_sde.evaluation.stability.report import Agreement, Estimate, StabilityReport
from robustbench_sde.models.fixed_path import FixedPath
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.models.smoothed import Smoothed
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.corruptions import make_corruptions
from robustbench_sde.sde.draws import Draws, Stream

DATA = make_data(6)
DRAWS = Draws(0, Stream.AUDIT, range(3))
SIDE_BY_SIDE = {
    "architecture": "liu2020",
    "stem_strides": (1, 1, 2),
    "blocks": 2,
    "features": 8,
    "norm_groups": 2,
}


def random_like(tensor: torch.Tensor, seed: int) -> torch.Tensor:
    """Standard normals of its shape and type."""
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed), dtype=tensor.dtype)


@pytest.mark.parametrize("changes", [{}, SIDE_BY_SIDE], ids=["plain", "liu2020"])
def test_products_and_constants_are_those_of_the_dense_jacobian(changes):
    """J v, J^T u, L and mu of a network's drift and step, against the whole Jacobian (double precision)."""
    model = make_model(sigma=0.4, **changes).double()
    h0, equations = model.chains(to_float(DATA.images[:1]).double(), DATA.ids[:1], DRAWS)[-1]
    step = next(iter(equations[0].walk()))
    h = h0.expand(3, *h0.shape[1:])[:1]
    entries = h.numel()

    def drift(h):
        return equations[0].f(0.3, h)

    def shared(h):  # the step of the first path alone
        return step(h.expand(3, *h.shape[1:]))[:1]

    for function in (drift, shared):
        dense = torch.autograd.functional.jacobian(function, h).view(entries, entries)
        local = Linearised(function, h)
        v, u = random_like(h, 1), random_like(h, 2)
        assert torch.equal(local.value, function(h))
        assert torch.allclose(local.jvp(v).flatten(), dense @ v.flatten())
        assert torch.allclose(local.vjp(u).flatten(), u.flatten() @ dense)
        lipschitz, one_sided = local.largest_singular_value(v), local.largest_symmetric_eigenvalue(v)
        assert float(lipschitz) == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)), rel=0.01)
        symmetric = torch.linalg.eigvalsh((dense + dense.T) / 2)[-1]
        assert float(one_sided) == pytest.approx(float(symmetric), rel=0.02)


def test_a_normalised_drift_has_no_global_constant():
    """A drift that begins with GroupNorm knows no scale: at a tenth of the state, L is ten times as large."""
    model = make_model().double()
    h0, (equation,) = model.chains(to_float(DATA.images).double(), DATA.ids, DRAWS)[0]
    at = [
        Linearised(lambda h: equation.f(0.0, h), scale * h0).largest_singular_value(random_like(h0, 0))
        for scale in (1.0, 0.1)
    ]
    assert torch.allclose(at[1], 10 * at[0], rtol=0.05)


@pytest.mark.parametrize("values", [(3.0, 1.0, -5.0), (2.0, 2.0, 2.0), (-1.0, -1.0, -4.0), (0.0, 0.0, 0.0)])
def test_an_exhausted_space_leaves_the_largest_eigenvalue(values):
    """Few different eigenvalues, all below 0, or all 0: rows of one batch do not disturb each other."""
    several = torch.stack([torch.tensor(values), torch.tensor([1.0, 2.0, 3.0])]).view(1, 2, 3)
    found = largest_eigenvalue(lambda v: several * v, random_like(several, 0), 10)
    assert found.flatten().tolist() == pytest.approx([max(values), 3.0], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [({}, 3), ({"blocks": 2}, 6), (SIDE_BY_SIDE, 3)],
    ids=["plain", "chain", "liu2020"],
)
def test_distances_are_those_of_separate_solves(changes, steps):
    """|h(x+e) - h(x)| at T is that of two forward passes on the same draws; 0 where nothing was perturbed."""
    model = make_model("multiplicative", **changes)
    clean = to_float(DATA.images)
    other = (clean + 0.1).clamp(max=1)
    norm, same, moved = distances(model.chains, [clean, clean, other], DATA.ids, DRAWS)
    assert norm.shape == (steps + 1, 3, len(DATA))
    assert not same.any()

    def ends(images):
        finished = []
        for h, equations in model.chains(images, DATA.ids, DRAWS):
            for equation in equations:
                h = equation.solve(h)
            finished.append(h.flatten(2))
        return torch.cat(finished, 2).double()

    assert torch.allclose(norm[-1], ends(clean).norm(dim=2), rtol=1e-4)
    assert torch.allclose(moved[-1], (ends(other) - ends(clean)).norm(dim=2), rtol=1e-4)


def noise(kind: str, sigma: float = 0.5, **fields: object) -> NoiseSpec:
    """A noise term."""
    return NoiseSpec(kind=kind, sigma=sigma, **fields)


@pytest.mark.parametrize(
    ("terms", "obstacle", "variance"),
    [
        ((), "there is no noise", math.nan),
        ((noise("additive"),), "cancels in their difference", math.nan),
        ((noise("dropout"),), "proportional to f", math.nan),
        ((noise("jump"),), "jumps are none", math.nan),
        ((noise("multiplicative"),), "each entry of the state", 0.25),
        ((noise("multiplicative", shape="channel"),), "each channel", 0.25),
        ((noise("multiplicative", shape="scalar"),), "", 0.25),
        ((noise("multiplicative", shape="scalar"), noise("additive")), "", 0.25),
        ((noise("multiplicative", shape="scalar"), noise("dropout")), "proportional to f", 0.25),
        ((noise("multiplicative", shape="scalar", growth=3.0),), "", 0.25 * 13 / 3),
        ((noise("multiplicative", shape="scalar", learned=True),), "", 0.25),
    ],
)
def test_the_condition_is_for_scalar_multiplicative_noise_alone(terms, obstacle, variance):
    """Any other noise gets the reason in its place; sigma^2 is the mean over time."""
    model = make_model(noise=terms)
    exponent = Estimate(0.2, 0.1, 0.3, 0.15, 0.25)
    found = condition_of(model, exponent, lipschitz=1.0, one_sided=0.5, state=(8, 6, 6))
    assert found.applies == (obstacle == "")
    assert obstacle in found.obstacle
    assert found.variance == pytest.approx(variance, nan_ok=True)
    assert math.isnan(found.bound) == bool(obstacle)
    assert (found.agreement == Agreement.DOES_NOT_APPLY) == bool(obstacle)


def test_one_dimension_needs_no_shared_noise():
    """A state of one entry has a scalar Brownian motion whatever the noise shape says."""
    exponent = Estimate(-3.0, -3.1, -2.9, -3.1, -2.9)
    found = condition_of(make_model(sigma=2.8), exponent, lipschitz=1.0, one_sided=1.0, state=(1, 1, 1))
    assert (found.holds, found.agreement) == (True, Agreement.AGREES)
    assert found.bound == pytest.approx(1 - 2.8**2 / 2)


@pytest.mark.parametrize(
    ("sigma", "low", "high", "agreement"),
    [
        (2.0, -1.5, -0.5, Agreement.AGREES),
        (2.0, -1.5, 0.5, Agreement.UNDECIDED),
        (2.0, -0.5, 0.5, Agreement.CONTRADICTS),  # the bound is 1 - 2 = -1
        (1.0, -0.5, 0.5, Agreement.SILENT),
        (1.0, 0.6, 0.9, Agreement.CONTRADICTS),  # the bound is 1 - 0.5 = 0.5
    ],
)
def test_agreement_of_the_measured_exponent(sigma, low, high, agreement):
    """L = 1: the interval over images decides against 0 and against the bound L - sigma^2 / 2."""
    model = make_model(noise=(noise("multiplicative", sigma, shape="scalar"),))
    exponent = Estimate((low + high) / 2, low, high, low, high)
    found = condition_of(model, exponent, lipschitz=1.0, one_sided=0.5, state=(8, 6, 6))
    assert found.agreement == agreement


def report_of(model, rows=256, **changes) -> StabilityReport:
    """A small report."""
    perturbations = [
        make_attack("noise", eps=0.1, restarts=1),
        make_attack("pgd", eps=0.1, steps=2, eot_draws=2),
        *make_corruptions("contrast", [5]),
    ]
    settings = StabilitySettings(**{"paths": 3, "score": ScoreSettings(draws=2, rows=rows)} | changes)
    return stability(model, DATA, perturbations, settings)


@pytest.mark.parametrize(
    ("shape", "predicted"),
    [("scalar", -0.125), ("channel", 0.25 * (0.5 - 38 / 290)), ("independent", 0.25 * (0.5 - 3 / 290))],
)
def test_what_noise_gives_depends_on_its_shape(shape, predicted):
    """sigma = 0.5: exactly -sigma^2 / 2 with one Brownian motion, else near the theory of mixed entries."""
    report = report_of(make_model(noise=(noise("multiplicative", shape=shape),)))
    slack = 1e-6 if shape == "scalar" else 0.01
    assert report.noise_part.estimate == pytest.approx(predicted, abs=slack)
    assert report.condition.predicted_noise == pytest.approx(predicted)
    assert report.condition.applies == (shape == "scalar")
    assert report.largest.estimate > report.exponent.estimate
    assert report.one_sided.estimate <= report.lipschitz.estimate <= report.condition.lipschitz


def test_numbers_depend_on_no_batch():
    """Batches of two images and of all give the same report, to float rounding."""
    one, all_ = (report_of(make_model(), rows=rows) for rows in (6, 256))
    for name in ("exponent", "largest", "lipschitz", "one_sided", "drift_part", "noise_part"):
        a, b = getattr(one, name), getattr(all_, name)
        assert (a.estimate, a.low, a.noise_high) == pytest.approx((b.estimate, b.low, b.noise_high), rel=1e-3)
    assert one.perturbations[0].rate.estimate == pytest.approx(all_.perturbations[0].rate.estimate, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [{}, SIDE_BY_SIDE, {"blocks": 2, "steps": 1}, {"solver": "heun"}],
    ids=["plain", "liu2020", "blocks", "heun"],
)
def test_report_of_every_architecture(changes):
    """Times, curves and intervals are there, the exponent is the slope of the growth, and JSON keeps all."""
    report = report_of(make_model("multiplicative", **changes))
    flows = 2 if "steps" in changes else 1
    assert len(report.times) == flows * report.steps + 1
    assert report.times[-1] == flows
    assert [course.perturbation for course in report.perturbations] == ["noise", "pgd", "contrast"]
    for course in report.perturbations:
        assert len(course.relative) == len(report.growth) == len(report.times)
        assert course.changed == len(DATA)
        assert 0 < course.relative[-1].low < course.relative[-1].estimate < course.relative[-1].high
    assert report.exponent.estimate == pytest.approx(report.growth[-1].estimate / report.times[-1])
    assert report.exponent.noise_low < report.exponent.estimate < report.exponent.noise_high
    again = StabilityReport.from_json(report.to_json())
    np.testing.assert_equal(asdict(again), asdict(report))  # NaN is equal to NaN here


def test_a_model_without_noise_has_one_path():
    """No interval over paths, no part of the noise, and JSON brings NaN back."""
    report = report_of(make_model("none"))
    assert report.paths == 1
    assert report.noise_part.estimate == 0
    assert math.isnan(report.exponent.noise_low)
    again = StabilityReport.from_json(report.to_json())
    assert math.isnan(again.exponent.noise_low)
    assert again.condition.obstacle == "there is no noise"


def test_unchanged_images_have_no_place_in_the_means():
    """A perturbation that changes no image has no numbers and breaks nothing."""
    report = stability(make_model(), DATA, [make_attack("noise", eps=0.0)], StabilitySettings(paths=2))
    (course,) = report.perturbations
    assert course.changed == 0
    assert math.isnan(course.rate.estimate)


def test_what_cannot_be_measured_is_one_sentence():
    """A model that is not ours, no path, a file that is no report."""
    with pytest.raises(BenchError, match="has no flow to measure"):
        stability(FixedPath(make_model()), DATA, [])
    with pytest.raises(BenchError, match="`paths` is 0"):
        replace(StabilitySettings(), paths=0)
    with pytest.raises(BenchError, match="no stability report"):
        StabilityReport.from_json("{}")


def test_a_smoothed_flow_starts_from_noisy_images():
    """States of a smoothed classifier are those of its noisy images; an ODE has several paths then."""
    model = make_model("none")
    smooth = Smoothed(model, 0.5)
    images = to_float(DATA.images)
    noisy = smooth.noisy(images, DATA.ids, DRAWS)
    norm, _ = distances(smooth.chains, [images, images], DATA.ids, DRAWS)
    each = [
        distances(model.chains, [own, own], DATA.ids, Draws(DRAWS.seed, DRAWS.stream))[0][:, 0]
        for own in noisy
    ]
    torch.testing.assert_close(norm, torch.stack(each, 1))
    report = stability(smooth, DATA, [], StabilitySettings(paths=3, score=ScoreSettings(2)))
    assert (report.paths, report.noise) == (3, "keyed")
    assert math.isfinite(report.exponent.estimate)


@pytest.mark.parametrize(
    ("norm", "eps", "budget"), [("linf", None, 0.03), ("l2", None, 0.5), ("l2", 0.2, 0.2)]
)
def test_a_point_an_attack_and_corruptions_are_followed(norm, eps, budget):
    """Both attacks have the budget that is given, or the usual one of the norm."""
    point, attack, *corruptions = perturbations_to_follow(
        norm, eps, steps=7, eot_draws=3, corruptions="fog", severities=(2, 4), family=None
    )
    assert point == make_attack("noise", norm=norm, eps=budget, restarts=1)
    assert attack == make_attack("pgd", norm=norm, eps=budget, steps=7, eot_draws=3)
    assert corruptions == make_corruptions("fog", [2, 4])


def test_times_end_at_the_horizons_of_the_flows():
    """Steps divide each horizon evenly, and the second of two flows begins where the first ends."""
    for changes, times in (({"steps": 3}, (0, 2 / 3, 4 / 3, 2)), ({"steps": 1, "blocks": 2}, (0, 2, 4))):
        model = make_model("none", horizon=2.0, **changes)
        assert stability(model, DATA, [], StabilitySettings(paths=1)).times == pytest.approx(times)


def test_the_constants_of_the_drift_are_those_along_two_paths():
    """A third path changes them no more than any further one, one path less does."""
    found = [
        stability(make_model(sigma=2.0), DATA, [], StabilitySettings(paths=paths)).lipschitz.estimate
        for paths in (1, 2, 3)
    ]
    assert found[0] != found[1] == found[2]
