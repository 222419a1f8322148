"""Gradients that are not finite, vanish or have saturated: the right number all the same."""

import math
import warnings

import pytest
import torch
from builders import make_data, make_model
from torch import nn

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.probabilities import split_label
from robustbench_sde.perturbations.attacks.best import Nearest
from robustbench_sde.perturbations.attacks.fmn import FastMinimumNorm
from robustbench_sde.perturbations.attacks.health import SATURATED
from robustbench_sde.perturbations.attacks.looks import Look
from robustbench_sde.perturbations.attacks.losses import cross_entropy
from robustbench_sde.perturbations.attacks.registry import ATTACKS, attack_kind
from robustbench_sde.perturbations.norms import NORMS

IMAGES = 40


class Changed(nn.Module):
    """A network that decides as `net` does, in another way."""

    def __init__(self, net, how):
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x):
        return self.how(self.net, x)


def _nan_in_a_corner(net, x):
    corner = x[..., :4, :4].square().sum((1, 2, 3)).sqrt()  # 0 / 0 where the corner is black
    return net(x) + 0 * corner[:, None]


HOW = {
    "x10": lambda net, x: 10 * net(x),
    "x100": lambda net, x: 100 * net(x),
    "x10000": lambda net, x: 1e4 * net(x),
    "root": lambda net, x: net(x.sqrt().pow(2)),  # 0 times inf at black pixels
    "corner": _nan_in_a_corner,
}


@pytest.fixture(scope="module")
def net(ode):
    return ode.as_module(draws=1).eval()


@pytest.fixture(scope="module")
def data():
    return rb.load_dataset("digits", images=IMAGES)


def accuracy(net, data, attack, **options):
    return rb.attack(net, data, attack, score_draws=1, **options).summary.iloc[-1]["accuracy"]


EQUAL = [
    ("pgd", {"norm": "linf", "eps": 0.06}),
    ("apgd-ce", {"norm": "linf", "eps": 0.06, "steps": 20}),
    ("apgd-dlr", {"norm": "linf", "eps": 0.06, "steps": 15}),
    ("fmn", {"norm": "linf", "eps": 0.06, "steps": 30}),
    ("auto", {"norm": "linf", "eps": 0.06, "steps": 5, "queries_per_step": 2}),
    ("foolbox:LinfPGD", {"norm": "linf", "eps": 0.06, "steps": 10}),
    ("pgd", {"norm": "l2", "eps": 1.0}),
    ("cw", {"norm": "l2", "eps": None, "steps": 20, "binary_search_steps": 2, "initial_constant": 1.0}),
    ("fmn", {"norm": "l2", "eps": None, "steps": 40}),
    ("auto", {"norm": "l2", "eps": 1.0, "steps": 10, "queries_per_step": 2}),
]


@pytest.mark.parametrize(("attack", "options"), EQUAL, ids=[f"{a} {o['norm']}" for a, o in EQUAL])
def test_equal_decisions_leave_equal_accuracies(net, data, attack, options):
    """Scaled logits and NaN in gradients change accuracies by two images at most."""
    base = accuracy(net, data, attack, **options)
    assert base <= 0.2
    for name, how in HOW.items():
        found = accuracy(Changed(net, how).eval(), data, attack, **options)
        assert abs(found - base) * IMAGES <= 2.001, name


def test_the_loss_of_a_saturated_image_has_the_direction_of_its_cross_entropy():
    """Both gradients are parallel in float64, where nothing is lost, and the float32 one agrees."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 10, generator=generator, dtype=torch.float64)
    labels = torch.arange(20) % 10
    logits[torch.arange(20), labels] = 18.0
    assert (split_label(logits.log_softmax(-1), labels)[0] > -1e-5).all()

    def gradient(values, loss):
        values = values.clone().requires_grad_()
        (found,) = torch.autograd.grad(loss(values.log_softmax(-1), labels).sum(), values)
        return nn.functional.normalize(found.double(), dim=1)

    exact = gradient(logits, lambda log_probs, labels: -split_label(log_probs, labels)[0])
    assert torch.allclose(gradient(logits, cross_entropy), exact, atol=1e-9)
    assert torch.allclose(gradient(logits.float(), cross_entropy), exact, atol=1e-5)


def test_unsaturated_images_keep_every_bit_beside_saturated_ones():
    """The switch is image by image: the gradient of an ordinary one is that of the plain loss."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(8, 10, generator=generator)
    labels = torch.arange(8)
    logits[::2] *= 100
    logits[torch.arange(0, 8, 2), labels[::2]] = 500.0

    def gradient(loss):
        values = logits.clone().requires_grad_()
        log_probs = values.log_softmax(-1)
        margin = split_label(log_probs, labels)
        (found,) = torch.autograd.grad(loss(log_probs, labels).sum(), values)
        return found, (margin[0] - margin[1]).detach() > SATURATED

    plain, _ = gradient(lambda log_probs, labels: -split_label(log_probs, labels)[0])
    found, saturated = gradient(cross_entropy)
    assert saturated.tolist() == [True, False] * 4
    assert torch.equal(found[~saturated], plain[~saturated])
    assert (plain[saturated] == 0).all()
    assert (found[saturated].abs().sum(1) > 1).all()


@pytest.mark.parametrize(
    ("attack", "norm", "images"), [("fmn", "l2", 60), ("fmn", "linf", 60), ("cw", "l2", 30)]
)
def test_smallest_changes_cross_and_their_curve_has_no_floor(ode, attack, norm, images):
    """No image stands at any distance, and none of the points falls only when moved 2 % further."""
    data = rb.load_dataset("digits", images=images)
    result = rb.attack(ode, data, attack, norm=norm, eps=None, **({"steps": 40} if attack == "cw" else {}))
    assert result.summary.iloc[-1]["accuracy"] == 0
    clean = to_float(data.images)
    further = (clean + 1.02 * (result.images - clean)).clamp(0, 1)
    assert rb.score(ode, data, images=further).summary.iloc[-1]["accuracy"] == 0


def test_the_ball_of_fmn_shrinks_grows_and_reaches_past_the_boundary():
    """It shrinks where fooled, grows after a success, and before any reaches past the estimated boundary."""
    nearest = Nearest(torch.zeros(5, 1, 1, 2))
    nearest.found = torch.tensor([True, True, False, False, False])
    nearest.distance = torch.tensor([0.8, 0.5, math.inf, math.inf, math.inf])
    margin = torch.tensor([-1.0, 1.0, 2.0, 0.5, -0.1])  # the last seems fooled and is not confirmed
    look = Look(margin, torch.zeros(5), torch.zeros(5, 2), torch.zeros(5))
    gradient = torch.tensor([3.0, 4.0]).expand(5, 1, 1, 2)  # of length 5
    radius, in_linf = (
        FastMinimumNorm._next_radius(
            NORMS[norm],
            torch.tensor([1.0, 0.6, 0.7, 0.7, 0.7]),
            torch.tensor([0.9, 0.6, 0.3, 0.3, 0.3]),
            look,
            gradient,
            torch.tensor([True, False, False, False, False]),
            nearest,
            0.1,
        )
        for norm in ("l2", "linf")
    )
    guesses = [(0.3 + ahead / 5) * 1.1 for ahead in (2, 0.5, 0)]
    assert radius.tolist() == pytest.approx([0.8 * 0.9, 0.6 * 1.1, *guesses])
    assert in_linf[2].item() == pytest.approx((0.3 + 2 / 7) * 1.1)  # the sum of its entries is 7


def _rounded(net, x):
    return net((x * 8).round() / 8) + 0 * x.mean((1, 2, 3))[:, None]


def test_every_row_says_how_healthy_its_gradients_are(net, data):
    """Healthy attacks count none, black boxes do not count; a saturated row is ok, one without is suspect."""
    few = data.subset(12)

    def row(how, attack):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that gradients are zero is said before the attack as well
            result = rb.attack(Changed(net, how).eval(), few, attack, eps=0.06, score_draws=1)
        return result.summary.iloc[-1], result

    def plain(net, x):
        return net(x)

    signs = ["gradients_zero", "gradients_not_finite", "gradients_saturated"]
    healthy, result = row(plain, "pgd")
    assert healthy[signs].tolist() == [0, 0, 0]
    assert healthy["status"] == "ok"
    assert result.summary.loc[:1, signs].isna().all(axis=None)  # clean and the control
    assert row(plain, "square")[0][signs].isna().all()
    saturated, _ = row(HOW["x100"], "pgd")
    assert saturated["gradients_saturated"] > 0.9
    assert saturated["status"] == "ok"
    for how, sign in ((HOW["root"], "gradients_not_finite"), (_rounded, "gradients_zero")):
        bad, result = row(how, "apgd-ce")
        assert bad[sign] == 1
        assert bad["status"].startswith("suspect: ")
        assert not result.ok


def test_an_attack_without_gradients_goes_on_by_square(net, data):
    """Zero gradients everywhere: `pgd` leaves as few images as `square` does, and records name it."""
    rounded = Changed(net, _rounded).eval()
    few = data.subset(20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgd, square = (
            rb.attack(rounded, few, name, norm="linf", eps=0.1, score_draws=1) for name in ("pgd", "square")
        )
    left = [result.summary.iloc[-1]["accuracy"] for result in (pgd, square)]
    assert left[1] < 0.5
    assert abs(left[0] - left[1]) <= 0.1
    assert "square" in set(pgd.records["chosen"])


class Rounded(Classifier):
    """A classifier of grey levels in steps of an eighth: its gradient is zero everywhere."""

    def logits(self, images, image_ids, draws):
        return super().logits((images * 8).round() / 8, image_ids, draws) + 0 * images.mean()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("attack", "norm"), [("fmn", "linf"), ("cw", "l2")])
def test_a_minimal_norm_attack_without_gradients_goes_on_by_hopskipjump(attack, norm):
    """Every image falls at a finite distance by decisions alone, and the row is suspect."""
    model, data = make_model("none"), make_data(2)
    model.__class__ = Rounded
    result = rb.attack(model, data, attack, norm=norm, eps=None, steps=3)
    row, records = result.summary.iloc[-1], result.records
    assert row["accuracy"] == 0
    assert 0 < row["distance_q75"] < math.inf
    assert set(records["chosen"][records[norm] > 0]) == {"hopskipjump"}
    assert row["status"].startswith("suspect: ")


@pytest.mark.filterwarnings("ignore")
def test_a_random_network_without_gradients_is_attacked_by_the_decisions_of_its_mean():
    """The substitute runs on a random network as well, and moves images to a finite distance."""
    model, data = make_model(), make_data(1)
    model.__class__ = Rounded
    result = rb.attack(model, data, "fmn", norm="l2", eps=None, steps=3, eot_draws=4)
    assert result.records["chosen"].tolist() == ["hopskipjump"]
    assert result.records["l2"].iloc[0] > 0
    assert not result.records["correct"].iloc[0]
    assert result.summary.iloc[-1]["status"].startswith("suspect: ")


@pytest.mark.filterwarnings("ignore")
def test_an_image_that_nothing_fools_stands_at_any_distance_and_its_row_is_suspect(data):
    """A constant classifier has no gradient and no other decision: the substitute finds nothing either."""
    one = data.subset(1)

    def constant(net, x):
        return 5 * torch.eye(10)[one.labels[0]].expand(len(x), 10) + 0 * x.mean((1, 2, 3))[:, None]

    result = rb.attack(Changed(None, constant).eval(), one, "fmn", norm="l2", eps=None, steps=3)
    row = result.summary.iloc[-1]
    assert row["accuracy"] == 1
    assert math.isinf(row["distance_median"])
    assert row["status"].startswith("suspect: ")


WITH_GRADIENTS = [*sorted(name for name, kind in ATTACKS.items() if kind.gradients), "foolbox:LinfPGD"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_every_attack_with_gradients_counts_them_and_its_row_is_suspect_where_they_are_zero(name):
    """Whatever attack it is: all zero is all suspect, and the gradients of an honest network are no sign."""
    known = attack_kind(name).parameters()
    few = {"steps": 2, "eot_draws": 2, "queries_per_step": 1, "confirm": 2, "binary_search_steps": 1}
    few = {key: value for key, value in few.items() if key in known}
    honest, data = make_model(), make_data(2)
    dead = make_model()
    with torch.no_grad():
        for weight in dead.state_dict().values():
            weight.zero_()
    rows = [
        rb.attack(model, data, {name: few}, eps=0.1, score_draws=4).summary.iloc[-1]
        for model in (honest, dead)
    ]
    signs = ["gradients_zero", "gradients_not_finite", "gradients_saturated"]
    assert rows[0][signs].tolist() == [0, 0, 0]
    assert rows[0]["status"] == "ok"
    assert rows[1][signs].tolist() == [1, 0, 0]
    assert rows[1]["status"].startswith("suspect: gradients of 100% of the images are zero everywhere")
