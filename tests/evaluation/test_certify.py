"""Certificates of smoothed classifiers: exact for linear ones, resumable, and put to the test by attacks."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from builders import make_data, make_model
from scipy.special import ndtr
from torch import nn

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError, BenchWarning, InvalidEvaluationError
from robustbench_sde.evaluation.bounds import certified_radius, clopper_pearson_low
from robustbench_sde.evaluation.bracket import Evaluated, contradictions, make_brackets
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.certify import certificates
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.evaluation.numbers import certified_at
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.base import ClassifierBase
from robustbench_sde.models.smoothed import Smoothed
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean

SIGMA = 0.25


class Linear(ClassifierBase):
    """Two classes, divided by a plane through the middle of the cube: its true radii are known."""

    name, noise, sigma, stochastic, precision = "linear", "none", 0.0, False, "fp32"
    image_shape, classes, device = (1, 12, 12), 2, torch.device("cpu")

    def __init__(self):
        weights = torch.cos(torch.arange(144.0))
        self.weights = weights / weights.norm()

    def distance(self, images):
        """Return the signed distance of each image to the plane."""
        return (images.flatten(1) - 0.5) @ self.weights

    def logits(self, images, image_ids, draws):
        """Return logits that grow with the distance to the plane."""
        distance = 5 * self.distance(images)
        return torch.stack((-distance, distance), 1).expand(len(draws), -1, -1)


def linear_data(count):
    """Images with the labels that the plane gives."""
    data = make_data(count, classes=2)
    labels = (Linear().distance(to_float(data.images)) > 0).long()
    return type(data).whole("random", "test", data.images, labels, data.class_names)


@pytest.mark.parametrize("rule", ["vote", "mean-prob"])
def test_radii_of_a_linear_classifier_stay_below_the_truth(rule):
    """No radius exceeds the distance to the plane, and those by votes are what so many draws can prove."""
    data, settings = linear_data(40), CertifySettings(draws=1_000, rule=rule, early=False, radii=(0.0,))
    records = certificates(Smoothed(Linear(), SIGMA), data, settings, sigma=SIGMA)
    truth = Linear().distance(to_float(data.images)).abs().numpy()
    assert (records["radius"] <= truth).all()
    assert records["correct"].mean() > 0.5
    if rule == "vote":
        expected = [
            certified_radius(clopper_pearson_low(round(1_000 * p), 1_000, settings.alpha), SIGMA)
            for p in ndtr(truth / SIGMA)
        ]
        assert records["radius"].mean() == pytest.approx(np.mean(expected), rel=0.03)


def test_stopping_early_answers_alike_with_less_than_half_of_the_draws():
    """At each radius the certified accuracy is that of all 2,000 draws, for less than half of the work."""
    data, radii = linear_data(30), (0.0, 0.25, 0.5)
    model = Smoothed(Linear(), SIGMA)
    found = [
        certificates(model, data, CertifySettings(draws=2_000, radii=radii, early=early), sigma=SIGMA)
        for early in (True, False)
    ]
    for radius in radii:
        shares = [certified_at(records, radius).mean() for records in found]
        assert abs(shares[0] - shares[1]) <= 1 / 30
    assert found[0]["draws"].mean() <= found[1]["draws"].mean() / 2


def test_batches_change_no_certificate():
    """One image at a time gives the certificates of a batch, for an SDE inside."""
    model, data = Smoothed(make_model("multiplicative"), 0.1), make_data(5)
    found = [
        certificates(model, data, CertifySettings(draws=150, select_draws=20, rows=rows), sigma=0.1)
        for rows in (256, 1)
    ]
    pd.testing.assert_frame_equal(*found)


def bracketed(claimed):
    """Certify with a claimed sigma, attack within 0.4, and return brackets and status."""
    data, score = linear_data(40), ScoreSettings(200, "vote")
    settings = CertifySettings(draws=1_000, radii=(0.0, 0.4))
    model = Smoothed(Linear(), SIGMA)
    records = certificates(model, data, settings, sigma=claimed)
    attack = make_attack("apgd-ce", norm="l2", eps=0.4, steps=10, eot_draws=4)
    cells = [evaluate(model, data, perturbation, score) for perturbation in (Clean(), attack)]
    return make_brackets(records, [Evaluated(cell.row, cell.records) for cell in cells], settings)


def test_a_certificate_with_a_wrong_sigma_is_caught():
    """Radii that were computed with three times the sigma of the noise are contradicted by an attack.

    The right sigma passes under the same attack.
    """
    brackets, status = bracketed(SIGMA)
    assert status == "ok"
    assert all(bracket.certified[0] <= bracket.attacked[0] for bracket in brackets)
    wrong, status = bracketed(3 * SIGMA)
    named = [image for bracket in wrong for image in bracket.contradictions]
    assert named
    assert wrong[1].certified[0] > wrong[1].attacked[0]
    assert status.startswith(f"invalid: {len(named)} certificates contradicted by apgd-ce (")
    assert f"image {named[0]} at 0.4" in status


@pytest.mark.parametrize("rule", ["vote", "mean-prob"])
def test_a_lost_image_counts_only_beyond_chance(rule):
    """Half of the draws lost is chance, nine tenths lost is none; images outside their radius never count."""
    records = pd.DataFrame({"correct": [True, True, False, True], "radius": [0.5, 0.5, 0.0, 0.3]})
    attacked = pd.DataFrame(
        {
            "image_id": [7, 8, 9, 10],
            "score_draws": [200] * 4,
            "share_correct": [0.49, 0.1, 0.1, 0.1],
            "label_probability": [0.49, 0.1, 0.1, 0.1],
            "l2": [0.4] * 4,
        }
    )
    assert contradictions(records, attacked, CertifySettings(rule=rule)) == [8]
    assert contradictions(records, attacked, CertifySettings(rule=rule), tests=10**300) == []


def test_certify_is_resumable(tmp_path):
    """A call that was made before finds its report in the folder; another error probability is other work."""
    model, data = make_model("none"), make_data(4)
    asked = {"smoothing": [0.1, 0.2], "draws": 50, "select_draws": 10, "radius": (0.0, 0.1), "out": tmp_path}
    first = rb.certify(model, data, **asked)
    again = rb.certify(model, data, **asked)
    assert (first.reused, again.reused) == (0, 2)
    assert again.reports == first.reports
    with pytest.raises(BenchError, match="holds another run"):
        rb.certify(model, data, **asked, alpha=0.01)
    with pytest.warns(BenchWarning, match="replaces the run"):
        assert rb.certify(model, data, **asked, alpha=0.01, force=True).reused == 0
    stored = pd.read_parquet(tmp_path / "certificates.parquet")
    assert list(stored["checkpoint"].unique()) == ["tiny-none@0.1", "tiny-none@0.2"]
    assert list(stored["radius"]) == [0.0, 0.1, 0.0, 0.1]
    (file,) = tmp_path.glob(f"certificates/*-{stored['certificate'][0]}.parquet")
    assert len(pd.read_parquet(file)) == 4


def test_any_module_can_be_certified():
    """A deterministic nn.Module becomes `keyed`, and its bracket holds."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 4)).eval()
    found = rb.certify(
        module, make_data(6), attack="pgd", parameters={"steps": 2}, radius=(0.0, 0.1), draws=100
    )
    (report,) = found.reports
    assert (report.noise, found.ok) == ("keyed", True)
    assert all(math.isfinite(bracket.attacked[0]) for bracket in report.brackets)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rule": "single"}, "has no certificate"),
        ({"alpha": 0.0}, "`alpha` is 0"),
        ({"draws": 1}, "`draws` is 1"),
        ({"radius": (-1.0,)}, "`radius` must name"),
        ({"attack": "pgd", "radius": (0.0,)}, "no value above 0"),
    ],
)
def test_what_cannot_be_certified_is_refused(asked, message):
    """Rules without a theorem and impossible numbers are one sentence."""
    with pytest.raises(BenchError, match=message):
        rb.certify(make_model("none"), make_data(2), **asked)


@pytest.mark.parametrize(("draws", "tests", "found"), [(22, 0, []), (24, 0, [7]), (24, 2, []), (26, 2, [7])])
def test_a_contradiction_is_as_sure_as_alpha_says(draws, tests, found):
    """n pairs lose all their votes with a probability of at most 2^-n at one half: 12 do for .001 / e."""
    certificate = pd.DataFrame({"correct": [True, False], "radius": [0.5, 0.5]})
    lost = {"share_correct": 0.0, "label_probability": 0.0, "l2": 0.4, "score_draws": draws}
    moved = pd.DataFrame([{"image_id": 7, **lost}, {"image_id": 8, **lost}])
    settings = CertifySettings(rule="vote", alpha=0.001)
    assert contradictions(certificate, moved, settings, tests=tests) == found


@pytest.mark.parametrize(
    ("early", "draws", "error"), [(False, 50, 0.001), (False, 300, 0.001), (True, 300, 0.0005)]
)
def test_every_draw_of_a_certain_image_counts(early, draws, error):
    """All of n votes agree, so that the lower bound is the n-th root of the error of the last look."""
    data = linear_data(3)
    settings = CertifySettings(
        draws=draws, select_draws=5, alpha=0.001, radii=(0.376,), rule="vote", early=early
    )
    records = certificates(Certain(), data, settings, sigma=0.2)
    assert records["draws"].tolist() == [draws] * 3
    assert records["p_low"].to_numpy() == pytest.approx(error ** (1 / draws), rel=1e-9)
    assert records["prediction"].tolist() == [1] * 3


class Certain(Linear):
    """Gives class 1 to every image, whatever the noise."""

    noise, stochastic = "opaque", True

    def logits(self, images, image_ids, draws):
        """Return logits 0 and 9."""
        return torch.tensor([0.0, 9.0]).expand(len(draws), len(images), 2)


class Torn(Linear):
    """Gives class 0 barely in three of five draws, and class 1 strongly in the others."""

    noise, stochastic = "opaque", True

    def logits(self, images, image_ids, draws):
        """Return the logits of the draws."""
        table = torch.tensor([[0.1, 0.0], [0.0, 5.0], [0.1, 0.0], [0.0, 5.0], [0.1, 0.0]])
        return table[[index % 5 for index in draws.indices]][:, None].expand(-1, len(images), -1)


@pytest.mark.parametrize(("rule", "draws", "picked"), [("vote", 5, 0), ("mean-prob", 5, 1), ("vote", 2, 1)])
def test_the_class_that_is_certified_is_picked_by_the_rule(rule, draws, picked):
    """Votes count heads, and a tie goes to the larger mean probability."""
    settings = CertifySettings(draws=10, select_draws=draws, rule=rule, radii=(0.0,))
    records = certificates(Torn(), linear_data(2), settings, sigma=0.2)
    assert records["prediction"].tolist() == [picked] * 2


def test_a_bracket_holds_the_strongest_l2_attack_of_its_radius():
    """Clean images are radius 0; other norms and the control count nowhere, and no attack is no number."""
    records = pd.DataFrame(
        {"image_id": [0, 1], "correct": [True, True], "radius": [0.5, 0.2]} | dict.fromkeys(("l2",), 0.0)
    )
    calm = pd.DataFrame(
        {"image_id": [0, 1], "score_draws": 9, "share_correct": 1.0, "label_probability": 1.0, "l2": 0.1}
    )
    cells = [
        Evaluated(dict(zip(("perturbation", "norm", "eps", "accuracy"), row, strict=True)) | ends, calm)
        for row in (
            ("clean", "", math.nan, 0.9),
            ("pgd", "l2", 0.3, 0.6),
            ("apgd-ce", "l2", 0.3, 0.5),
            ("square", "linf", 0.3, 0.1),
            ("control", "l2", 0.3, 0.2),
        )
        for ends in ({"accuracy_low": 0.0, "accuracy_high": 1.0},)
    ]
    found, status = make_brackets(records, cells, CertifySettings(radii=(0.0, 0.3, 0.4)))
    assert status == "ok"
    assert [(bracket.radius, bracket.certified[0], bracket.attack) for bracket in found] == [
        (0.0, 1.0, ""),
        (0.3, 0.5, "apgd-ce"),
        (0.4, 0.5, ""),
    ]
    assert [bracket.attacked for bracket in found] == [(0.9, 0.0, 1.0), (0.5, 0.0, 1.0), None]


@pytest.mark.parametrize("seed", [2**63, 2**64, -(2**63) - 1])
def test_a_seed_has_64_bits(seed):
    """A seed beyond the column of the table is refused."""
    with pytest.raises(BenchError, match="`seed` is"):
        CertifySettings(seed=seed)


def test_logits_that_are_not_finite_have_no_certificate():
    """The first image with one is named."""

    class Broken(Certain):
        """Gives no number to the second image."""

        def logits(self, images, image_ids, draws):
            found = super().logits(images, image_ids, draws).clone()
            found[:, [int(image) == 1 for image in image_ids]] = math.nan
            return found

    with pytest.raises(InvalidEvaluationError, match="logits are not finite: image 1"):
        certificates(Broken(), linear_data(3), CertifySettings(draws=10, select_draws=2), sigma=0.2)
