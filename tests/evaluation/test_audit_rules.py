"""Rules of the audit on models whose answer is known in closed form."""

import math
import re
from dataclasses import replace

import pytest
import torch
from builders import make_data, make_model
from scipy.optimize import brentq
from scipy.stats import binom

from robustbench_sde.data import to_float
from robustbench_sde.evaluation.audit import attacks, gradients
from robustbench_sde.evaluation.audit.compare import smallest_excess
from robustbench_sde.evaluation.audit.lab import AuditSettings, Lab
from robustbench_sde.evaluation.audit.report import AuditVerdict
from robustbench_sde.evaluation.audit.solver import solver
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.base import ClassifierBase
from robustbench_sde.perturbations.attacks.registry import make_attack

SETTINGS = AuditSettings(steps=2, eot_draws=2, score=ScoreSettings(draws=2))


class Plain(ClassifierBase):
    """Two classes without noise; a subclass gives the difference of their logits."""

    name, noise, sigma, stochastic, precision = "plain", "none", 0.0, False, "fp32"
    image_shape, classes, device = (1, 12, 12), 2, torch.device("cpu")

    def logits(self, images, image_ids, draws):
        """Return logits (draws, images, 2)."""
        difference = self.difference(images.flatten(1))
        return torch.stack((-difference / 2, difference / 2), 1).expand(len(draws), -1, -1)


class Waves(Plain):
    """A sum of sines of the pixels: central differences of size h are too small by sin(w h) / (w h)."""

    def __init__(self, frequency):
        self.frequency = frequency

    def difference(self, pixels):
        """Return the sum of alternating sines."""
        signs = torch.cos(math.pi * torch.arange(144.0))
        return (torch.sin(self.frequency * pixels) * signs).sum(1) / self.frequency


class Detached(Waves):
    """Passes no gradient."""

    def __init__(self):
        super().__init__(1.0)

    def difference(self, pixels):
        """Return the same without a graph."""
        return super().difference(pixels.detach())


class Memory(Plain):
    """Knows images by heart, all but the first pixel, to a grey level, and calls all others class 0.

    Its gradient leads nowhere: the first pixel alone has one, and decides nothing.
    """

    def __init__(self, data):
        self.known, self.labels = to_float(data.images).flatten(1)[:, 1:], data.labels.clone()

    def difference(self, pixels):
        """Return about 1 for class 1, and about -1 for class 0."""
        near = (pixels[:, None, 1:] - self.known).abs().amax(2) < 1 / 255
        return torch.where((near & (self.labels == 1)).any(1), 1.0, -1.0) + 0.01 * pixels[:, 0]


def test_usable_gradients_count_images_and_entries():
    """A gradient is zero if all entries are; the share of zero entries is told beside it."""
    data = make_data(12, classes=2)
    for model, entries in ((Waves(1.0), 0.0), (Memory(data), 143 / 144)):
        found = gradients.usable(Lab(model, data, SETTINGS))
        assert found.verdict == AuditVerdict.PASS
        assert found.numbers["zero_entries"] == pytest.approx(entries)
        assert found.numbers["unusable"][0] == 0.0
    found = gradients.usable(Lab(Detached(), data, SETTINGS))
    assert (found.verdict, found.numbers) == (AuditVerdict.FAIL, {"unusable": [1.0, 1.0, 1.0]})


def test_accuracy_is_compared_at_half_the_budget_and_at_four_times_it():
    """Budgets rise from clean images; the whole budget is the most."""
    data = make_data(10, classes=2)
    for eps, grid in ((0.03, [0.0, 0.03, 0.12]), (0.5, [0.0, 0.5, 1.0])):
        found = attacks.monotone(Lab(Waves(1.0), data, replace(SETTINGS, eps=eps)))
        assert found.numbers["eps"] == pytest.approx(grid)
        assert len(found.numbers["accuracy"]) == 3
        assert f"eps {eps / 2:.4g} " in found.message


class Signal(Plain):
    """The gradient of a draw is a signal in one pixel, and 1 in another pixel, which the draw alone has."""

    noise, stochastic = "opaque", True

    def __init__(self, signal):
        self.weights = 1e-4 * torch.cat((torch.full((128, 1), signal), torch.eye(128, 143)), 1)

    def logits(self, images, image_ids, draws):
        """Return logits (draws, images, 2), so small that all draws count alike."""
        difference = self.weights[list(draws.indices)] @ images.flatten(1).T
        return torch.stack((-difference / 2, difference / 2), 2)


class Skewed(Waves):
    """Logits are small, and a little larger where a gradient is taken."""

    def __init__(self, excess):
        super().__init__(1.0)
        self.excess = excess

    def logits(self, images, image_ids, draws):
        """Return logits that depend on whether somebody looks."""
        return super().logits(images, image_ids, draws) * 1e-3 * (1 + self.excess * images.requires_grad)


@pytest.mark.parametrize(
    ("most", "verdict"),
    [(16, AuditVerdict.PASS), (17, AuditVerdict.WARN), (64, AuditVerdict.WARN), (65, AuditVerdict.FAIL)],
)
def test_gradients_agree_as_their_signal_says(most, verdict):
    """Over n draws the cosine is n s^2 / (1 + n s^2): a fifth is asked of 16 draws, and of 64 at least."""
    power = 0.2501 / most
    found = gradients.agreement(Lab(Signal(math.sqrt(power)), make_data(10, classes=2), SETTINGS))
    draws = [1, 4, 16] if verdict == AuditVerdict.PASS else [1, 4, 16, 64]  # more would agree the better
    assert found.numbers["draws"] == draws
    assert found.numbers["cosine"] == pytest.approx([n * power / (1 + n * power) for n in draws], rel=1e-3)
    assert found.numbers["snr"] == pytest.approx([n * power for n in draws], rel=1e-3)
    assert found.numbers["sign_agreement"] == pytest.approx([1 - 2 * n / 144 for n in draws])
    assert found.verdict == verdict
    begin = "cosine (equal signs, SNR) by draws"
    assert found.message.startswith(f"{begin} 1: {power / (1 + power):.2f} (99%, {power:.2g}), 4: ")


@pytest.mark.parametrize(("excess", "verdict"), [(0.0009, AuditVerdict.PASS), (0.0011, AuditVerdict.FAIL)])
def test_logits_of_both_passes_agree_to_a_thousandth(excess, verdict):
    """The difference is relative to the largest logit."""
    found = gradients.same_forward(Lab(Skewed(excess), make_data(10, classes=2), SETTINGS))
    assert found.numbers["difference"] == pytest.approx(excess, rel=1e-2)
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("wrong", "p", "verdict"),
    [
        (6, 0.0007155, AuditVerdict.FAIL),
        (7, 0.0026114, AuditVerdict.WARN),
        (8, 0.0080624, AuditVerdict.WARN),
        (9, 0.0213870, AuditVerdict.PASS),
    ],
)
def test_an_accuracy_beyond_chance_at_the_whole_budget(wrong, p, verdict):
    """Too many right images of 30 in two classes warn or fail, as the binomial distribution says."""
    data = make_data(30, classes=2)
    model = Memory(data)
    data.labels[:wrong] = 1 - data.labels[:wrong]
    found = attacks.unbounded(Lab(model, data, SETTINGS))
    assert found.numbers["accuracy"][0] == pytest.approx(1 - wrong / 30)
    assert found.numbers["p"] == pytest.approx(p, rel=1e-3)
    assert found.verdict == verdict
    assert binom.sf(21, 30, 0.5 + found.numbers["seen_over_chance"]) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (0.15, AuditVerdict.PASS),
        (0.25, AuditVerdict.WARN),
        (0.45, AuditVerdict.WARN),
        (0.6, AuditVerdict.FAIL),
    ],
)
def test_derivatives_that_differ_from_what_a_grey_level_does_are_found(error, verdict):
    """The error is that of the closed form in every image; a fifth of the derivative warns, half fails."""
    turn = brentq(lambda angle: angle / math.sin(angle) - 1 - error, 0.1, 3)
    found = gradients.finite_differences(Lab(Waves(turn / 1e-3), make_data(10, classes=2), SETTINGS))
    assert found.verdict == verdict
    assert found.numbers["median_0.001"] == pytest.approx(error, abs=0.01)
    assert found.numbers["q90_0.001"] == pytest.approx(error, abs=0.02)
    tenth = turn / 10
    assert found.numbers["median_0.0001"] == pytest.approx(tenth / math.sin(tenth) - 1, abs=0.01)


@pytest.mark.parametrize(("error", "looked_at"), [(0.15, 12), (0.25, 30)])
def test_derivatives_of_all_images_are_looked_at_only_in_doubt(error, looked_at):
    """Twelve honest images of 30 are enough; an error beyond the bound in more than one asks for all."""
    turn = brentq(lambda angle: angle / math.sin(angle) - 1 - error, 0.1, 3)
    found = gradients.finite_differences(Lab(Waves(turn / 1e-3), make_data(30, classes=2), SETTINGS))
    assert found.numbers["images"] == looked_at
    assert (", 12 images: " in found.message) == (looked_at == 12)
    assert found.verdict == (AuditVerdict.PASS if looked_at == 12 else AuditVerdict.WARN)


def test_a_budget_for_every_image_starts_at_the_image():
    """A model that has learned images by heart is right where gradients lead, and wrong at random points."""
    data = make_data(30, classes=2)
    found = attacks.unbounded(Lab(Memory(data), data, SETTINGS))
    assert found.numbers["accuracy"][0] == 1.0
    assert found.numbers["chance"] == 0.5
    assert found.numbers["p"] == pytest.approx(0.5**30)
    assert found.verdict == AuditVerdict.FAIL
    assert found.message.startswith("eps 1 leaves 100.0 % (88.6-100.0), chance is 50.0 %, p = 9.3e-10; ")


def test_the_rule_about_solvers_says_the_accuracies_that_it_reports():
    """Every accuracy of the message is the number beside it, in percent."""
    found = solver(Lab(make_model(steps=2), make_data(10), replace(SETTINGS, steps=1)))
    told = [float(text) for text in re.findall(r"([0-9.]+) %", found.message)]
    seen = found.numbers.pop("seen")
    accuracies = ("direct on", "scored there on", "clean on", "made there on")
    known = [value[0] for name, value in found.numbers.items() if name.startswith(accuracies)]
    assert told == pytest.approx([100 * value for value in known], abs=0.05)
    assert max(told) > 0
    solvers = ("euler N=1", "euler N=4", "euler N=8", "heun N=2")
    assert {name for name in found.numbers if name.startswith(("decided", "won"))} == {
        f"{what} {name}"
        for name in solvers
        for what in ("decided otherwise on", "won by images of")
        if (what, name) != ("won by images of", "euler N=8")  # four attacks' worth of steps
    }
    assert seen == smallest_excess(10, 0.0)
    assert found.message.endswith("; 77 points more would have been seen")


def test_the_audit_judges_the_attack_as_it_is_by_default():
    """Without settings the audited attack is pgd with its own steps and draws."""
    lab = Lab(make_model(), make_data(), AuditSettings())
    assert lab.pgd() == make_attack("pgd", eps=0.03)
