"""The stability condition of Liu et al., sigma^2 > 2L, and the noise that it is about.

Let e be the difference of two solutions on one Brownian path. With multiplicative noise of one scalar
Brownian motion for all entries, d log|e| = (e . (f(x + e) - f(x)) / |e|^2 - sigma^2 / 2) dt + sigma dB, which
is at most (L - sigma^2 / 2) dt + sigma dB. With a motion for each entry the Ito term is another one:
`mixed_noise_share`.
"""

import math
from dataclasses import replace

from robustbench_sde.choices import NoiseShape
from robustbench_sde.evaluation.stability.report import Agreement, Estimate, StabilityCondition
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.noise import NoiseSpec
from robustbench_sde.sde.diffusion import NOISE_TERMS

_OTHER_SHAPE = {
    "independent": "each entry of the state has its own Brownian motion; the theorem is about one for all",
    "channel": "each channel has its own Brownian motion; the theorem is about one for all entries",
}


def condition_of(
    model: Classifier, exponent: Estimate, *, lipschitz: float, one_sided: float, state: tuple[int, ...]
) -> StabilityCondition:
    """The condition for this model, with the constants met and the exponent measured.

    Args:
        model: the classifier with the noise that was measured.
        exponent: of random directions.
        lipschitz, one_sided: the largest constants of the drift along the trajectories.
        state: (C, H, W) of the states, the largest ones where flows differ.
    """
    terms: dict[str, NoiseSpec] = {term.kind: term for term in model.spec.active_noise}
    multiplicative = terms.get("multiplicative")
    variance = predicted = math.nan
    if multiplicative:
        variance = _variance(model, multiplicative)
        entries = math.prod(state)
        predicted = mixed_noise_share(variance, entries, _sharing(multiplicative.shape, state))
    obstacle = _obstacle(terms, math.prod(state))
    unjudged = StabilityCondition(
        obstacle, variance, lipschitz, one_sided, predicted, Agreement.DOES_NOT_APPLY
    )
    return unjudged if obstacle else _judged(unjudged, exponent)


def mixed_noise_share(variance: float, entries: int, sharing: int) -> float:
    """Return the part of the exponent that multiplicative noise adds if the drift mixes all entries fast.

    sigma^2 (1/2 - (m + 2) / (d + 2)) for d entries of which blocks of m share a Brownian motion: the mean of
    `exponent.noise_share` over directions uniform on the sphere, where the |u|^2 of the blocks follow
    Dirichlet's law with parameters m/2. For m = d it is the theorem's -sigma^2 / 2, for m = 1 it is
    (sigma^2 / 2)(1 - 6 / (d + 2)): noise then drives neighbours apart for every d above 4.
    """
    return variance * (0.5 - (sharing + 2) / (entries + 2))


def _variance(model: Classifier, term: NoiseSpec) -> float:
    sigma = float(model.learned[term.kind].detach().abs().min()) if term.learned else term.sigma
    return sigma**2 * (1 + term.growth + term.growth**2) / 3  # the mean of sigma(t)^2, sigma(t) linear


def _sharing(shape: NoiseShape, state: tuple[int, ...]) -> int:
    channels, *plane = state
    return {"independent": 1, "channel": math.prod(plane), "scalar": channels * math.prod(plane)}[shape]


def _obstacle(terms: dict[str, NoiseSpec], entries: int) -> str:
    if not terms:
        return "there is no noise"
    kinds = [kind for name, kind in reversed(list(NOISE_TERMS.items())) if name in terms]
    if others := [kind for kind in kinds if kind.outside_theorem and not kind.cancels]:
        return others[0].outside_theorem
    if "multiplicative" not in terms:
        return kinds[0].outside_theorem
    return "" if entries == 1 else _OTHER_SHAPE.get(terms["multiplicative"].shape, "")


def _judged(condition: StabilityCondition, exponent: Estimate) -> StabilityCondition:
    if exponent.low > condition.bound:
        agreement = Agreement.CONTRADICTS
    elif not condition.holds:
        agreement = Agreement.SILENT
    else:
        agreement = Agreement.AGREES if exponent.high < 0 else Agreement.UNDECIDED
    return replace(condition, agreement=agreement)
