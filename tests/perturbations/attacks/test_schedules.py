"""Step sizes, radii and constants of attacks, as their pages promise them."""

import inspect
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from builders import make_data, make_model
from slope import Slope

from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.perturbations.attacks.apgd import checkpoints
from robustbench_sde.perturbations.attacks.best import Nearest
from robustbench_sde.perturbations.attacks.cw import _Search
from robustbench_sde.perturbations.attacks.fmn import FastMinimumNorm, _into
from robustbench_sde.perturbations.attacks.ray import Ray
from robustbench_sde.perturbations.attacks.registry import ATTACKS, make_attack
from robustbench_sde.perturbations.attacks.square import _L2, _bump, _signs, _window
from robustbench_sde.perturbations.norms import NORMS, Ball
from robustbench_sde.sde.draws import KeyedRandom, Stream

GREY = torch.full((1, 1, 2, 2), 0.5)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [1]),
        (10, [3, 5, 6, 7, 8, 9, 10]),
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (1000, [220, 410, 570, 700, 800, 870, 930, 990]),
    ],
)
def test_the_checkpoints_of_apgd_are_the_published_shares_rounded_up(steps, expected):
    """They lie after .22 N, .41 N, .57 N and so on, whatever the number of steps."""
    assert checkpoints(steps) == expected


def test_the_step_of_fmn_decays_to_a_hundredth_by_half_a_cosine():
    """Far from a flat boundary every step has its full length, which falls as the page says."""
    eye = Slope(GREY, lead=100.0)
    make_attack("fmn", norm="l2", steps=8, step_size=0.1).run(eye, GREY, None, 0)
    way = [float((point - GREY).norm()) for point in eye.seen[:9]]
    lengths = [after - before for before, after in pairwise(way)]
    wanted = [0.1 * (0.01 + 0.99 * (1 + math.cos(math.pi * step / 8)) / 2) for step in range(8)]
    assert lengths == pytest.approx(wanted, rel=1e-4)


def test_the_growth_of_the_ball_of_fmn_decays_to_a_fiftieth(monkeypatch):
    """The share by which the radius changes falls by half a cosine, as the step does."""
    seen = []

    def next_radius(norm, radius, size, look, gradient, fooled, nearest, growth):
        seen.append(growth)
        return radius

    monkeypatch.setattr(FastMinimumNorm, "_next_radius", staticmethod(next_radius))
    make_attack("fmn", norm="l2", steps=8, growth=0.1).run(Slope(GREY, lead=100.0), GREY, None, 0)
    wanted = [0.1 * (0.02 + 0.98 * (1 + math.cos(math.pi * step / 8)) / 2) for step in range(8)]
    assert seen == pytest.approx(wanted)


@pytest.mark.parametrize(("norm", "length"), [("l2", 0.5), ("linf", 0.4)])
@pytest.mark.parametrize("radius", [0.1, 0.45, 2.0])
def test_fmn_projects_into_the_ball_of_each_image(norm, length, radius):
    """A point inside stays; one outside comes to the surface, by its length or entry by entry."""
    delta = torch.tensor([0.3, -0.4]).expand(2, 1, 1, 2)
    found = _into(NORMS[norm], delta, torch.tensor([radius, 9.0]))
    wanted = [0.3 * min(1, radius / 0.5), -0.4 * min(1, radius / 0.5)]
    if norm == "linf":
        wanted = [min(0.3, radius), -min(0.4, radius)]
    assert found[0].flatten().tolist() == pytest.approx(wanted)
    assert torch.allclose(found[1], delta[1])
    assert float(NORMS[norm].size(found)[1]) == pytest.approx(length)


@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_cw_goes_on_until_the_margin_has_the_confidence(confidence):
    """The nearest point that counts is past a flat boundary by the confidence, and hardly more."""
    eye = Slope(GREY, lead=-1.0)  # ahead by 1, and the boundary is 0.5 away
    attack = make_attack("cw", confidence=confidence, steps=60, learning_rate=0.05)
    margin = float(eye.margin(attack.run(eye, GREY, None, 0)))
    assert -confidence - 0.1 < margin < -confidence


def test_the_step_of_cw_decays_to_a_hundredth_by_half_a_cosine():
    """The step size of Adam begins at the learning rate, is the mean halfway, and ends at a hundredth."""
    rate = make_attack("cw", steps=10, learning_rate=0.2)._rate
    assert [rate(share) for share in (0, 0.5, 1)] == pytest.approx([0.2, 0.101, 0.002])


@pytest.mark.parametrize(
    ("right", "begins_at"),
    [
        (0.1 * 999, 0.1),
        (0.1 * 1001, 0.1 * 100.1),
        (0.1 / 29, 0.1),
        (0.1 / 31, 1 / 31),
        (-0.1 / 31, 0.1),
        (0.0, 0.1),
        (math.inf, 0.1),
    ],
)
def test_the_search_of_cw_begins_elsewhere_only_where_it_would_not_get_there(right, begins_at):
    """More than 1000 times above or 30 below, it begins within ten times of the right constant; once."""
    search = _Search(make_attack("cw"), Slope(GREY, lead=100.0), GREY)
    gradient = torch.tensor([[[[3.0, 4.0]]]]) * (0.0 if math.isinf(right) else 1.0)  # of length 5
    margin = torch.tensor([1.0 if math.isinf(right) else right * 25 / 2])
    rows, size = torch.tensor([0]), torch.zeros(1)
    assert search._reachable(rows, margin, size, gradient).item() == pytest.approx(begins_at)
    assert search._reachable(rows, 1e6 * torch.ones(1), size, gradient).item() == pytest.approx(begins_at)


def test_foolbox_attacks_step_by_two_and_a_half_budgets_over_their_steps():
    """After one step of five an image has moved by half of the budget."""
    eye = Slope(GREY, lead=100.0)
    attack = make_attack("foolbox:LinfBasicIterativeAttack", eps=0.1, steps=5)
    attack.run(eye, GREY, KeyedRandom(0, Stream.ATTACK, "start"), 0)
    moved = [float((point - GREY).abs().max()) for point in eye.seen[:4]]
    assert moved == pytest.approx([0, 0.05, 0.1, 0.1], abs=1e-6)


@pytest.mark.parametrize(("height", "width", "bumps"), [(12, 12, (6, 6)), (11, 27, (6, 14)), (4, 7, (4, 7))])
def test_square_begins_with_five_by_five_bumps_of_random_signs(height, width, bumps):
    """Bumps of a fifth of the shorter side cover the image, each with a sign of its own, none left over."""
    images = torch.full((2, 3, height, width), 0.5)
    asked = []

    class Numbers:
        def uniforms(self, *shape):
            asked.append(shape)
            return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))

    ball = Ball(NORMS["l2"], 0.4)
    first = _L2(ball).first(images, Numbers())
    assert asked == [(3, *bumps)]
    assert torch.allclose(ball.norm.size(first - images), torch.full((2,), 0.4), atol=1e-5)


@pytest.mark.parametrize(
    ("side", "halves"),
    [
        (1, [[1]]),
        (2, [[1, 1], [-1, -1]]),
        (3, [[1, 1, 1], [1, 1, 1], [-1, -1, -1]]),
        (
            5,
            [
                [1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4],
                [1 / 4, 5 / 4, 5 / 4, 5 / 4, 1 / 4],
                [1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4],
                [-1, -1, -1, -1, -1],
                [-1, -1, -1, -1, -1],
            ],
        ),
    ],
)
def test_a_bump_of_square_is_two_pyramids_of_opposite_sign(side, halves):
    """The first has the middle row; levels add 1 / n^2, 1 / (n - 1)^2 and so on; the length is one."""
    wanted = torch.tensor(halves, dtype=torch.float32)
    assert torch.allclose(_bump(side, wanted), wanted / wanted.norm(), atol=1e-6)


@pytest.mark.parametrize("grey", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("weight", [1.0, -1.0])
@pytest.mark.parametrize("name", ["cw", "fmn"])
def test_restarts_begin_at_another_image(name, weight, grey):
    """Kicked off a black or a white image, the first point lies in [0, 1], and so do all others."""
    images = torch.full((1, 1, 4, 4), grey)
    eye = Slope(images, lead=100.0, weights=weight)
    make_attack(name, steps=2, norm="l2").run(eye, images, KeyedRandom(0, Stream.ATTACK, "start"), 1)
    walked = eye.seen[1:] if name == "cw" else eye.seen  # cw looks at the image itself before
    assert not torch.equal(walked[0], images)
    assert all(float(point.min()) >= 0 and float(point.max()) <= 1 for point in eye.seen)


@pytest.mark.parametrize(
    ("crossing", "stops"), [(0.99, 1.0), (1.005, 1.01), (1.02, 1.03), (1.05, 1.1), (1.2, 1.3), (2.0, 1.3)]
)
def test_hopskipjump_goes_past_its_point_until_fresh_draws_are_fooled(crossing, stops):
    """It stops at the first of 1, 1.01, 1.03, 1.1 and 1.3 times the way that is fooled, or at the last."""
    found = GREY - 0.1
    eye = Slope(GREY, lead=-float((GREY - 0.1 * crossing).sum()))  # falls with the pixels, as `found` does
    past = make_attack("hopskipjump", norm="l2")._past(eye, GREY, found)
    assert torch.allclose(past, GREY - 0.1 * stops, atol=1e-6)


@pytest.mark.parametrize(
    ("margin", "error", "leaves"),
    [(-1.0, 0.3, True), (-0.8, 0.3, False), (0.5, 0.0, False), (0.0, 0.0, False)],
)
def test_an_image_leaves_auto_by_three_standard_errors(margin, error, leaves):
    """The margin on the select draws must be below zero by as many as the page says."""
    auto = make_attack("auto", eps=0.1)
    assert auto.settled(torch.tensor([margin]), torch.tensor([error])).tolist() == [leaves]


@pytest.mark.parametrize("kind", ATTACKS.values(), ids=ATTACKS)
def test_parameters_of_attacks_are_given_by_name(kind):
    """Nobody can mistake the order of two numbers, in any attack."""
    parameters = inspect.signature(kind).parameters.values()
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}


def test_both_signs_of_square_are_as_likely():
    """The lower half of the uniform numbers is minus, the upper half plus."""
    assert _signs(torch.tensor([0.0, 0.49, 0.5, 0.99])).tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize(
    ("corner", "first"), [(0.0, (0, 0)), (0.249, (0, 1)), (0.5, (1, 2)), (0.9999, (2, 4))]
)
def test_a_window_lies_anywhere_in_the_image(corner, first):
    """A uniform number chooses among all places of a square of three in an image of 5x7."""
    images = torch.zeros(2, 1, 5, 7)
    found = _window(torch.full((2, 2), corner), 3, images)
    wanted = torch.zeros(5, 7, dtype=torch.bool)
    wanted[first[0] : first[0] + 3, first[1] : first[1] + 3] = True
    assert torch.equal(found, wanted.expand(2, 1, 5, 7))


def test_a_ray_ends_just_past_the_boundary_wherever_its_point_lies():
    """Before the boundary, far beyond it and hardly beyond: the point found is past it by at most 1 %."""
    eye = Slope(GREY, lead=-1.9)  # falls with the pixels: ahead by 0.1 at GREY
    boundary = GREY - 0.025
    for share in (0.3, 0.97, 1.0001, 1.02, 4.0):
        points = GREY + share * (boundary - GREY)
        ray = Ray(NORMS["l2"], 2.0, 8)
        found = ray.settle(eye, GREY, points, 0, ahead=torch.tensor([0.1]), nearest=torch.tensor([math.inf]))
        assert found.found.all()
        assert 0.05 < float(found.distance) <= 0.05 * 1.011


def test_a_ray_without_a_boundary_within_reach_finds_nothing():
    """A point beyond the largest distance is none, nor is one that is farther than the nearest so far."""
    eye = Slope(GREY, lead=-1.9)
    for largest, nearest in ((0.049, math.inf), (math.inf, 0.049)):
        ray = Ray(NORMS["l2"], 2.0, 8, largest=largest)
        ahead, best = torch.tensor([0.1]), torch.tensor([nearest])
        found = ray.settle(eye, GREY, GREY - 0.02, 0, ahead=ahead, nearest=best)
        assert not found.found.any()


class Lucky(Slope):
    """A random victim that is fooled by the draws of one step alone, everywhere."""

    stochastic = True

    def look(self, images, step, *, draws=None):
        look = super().look(images, step, draws=draws)
        return replace(look, margin=look.margin.new_full(look.margin.shape, -1.0 if step == 0 else 1.0))


def test_a_point_of_lucky_draws_is_not_confirmed():
    """All looks of a ray share draws that are always fooled; fresh ones never are, and nothing is found."""
    ray, none = Ray(NORMS["l2"], 2.0, 8), torch.tensor([math.inf])
    eye = Lucky(GREY)
    found = ray.settle(eye, GREY, GREY - 0.02, 0, ahead=torch.tensor([0.1]), nearest=none)
    assert not found.found.any()
    assert len(eye.seen) > 4  # it was asked again


@pytest.mark.parametrize("name", ["cw", "fmn"])
def test_a_search_for_smallest_changes_asks_a_random_model_little(name):
    """Walks without noise, short rounds, looks at the end: a quarter of what all steps take (fmn: .6)."""
    model, data = make_model(sigma=0.5), make_data(8)
    attack = make_attack(name, norm="l2", steps=60, eot_draws=8)
    made = attack(model, to_float(data.images), data.labels, data.ids)
    most = attack.steps * attack.gradients_per_step(model) * 8
    assert made.backward_passes.float().mean() < (0.25 if name == "cw" else 0.6) * most


def test_points_that_fmn_moves_further_have_draws_of_their_own():
    """Each look and the confirmation after it have steps that no other look has."""
    asked = []

    class Recorder(Slope):
        def steps_of(self, draws):
            return 3

        def look(self, images, step, *, draws=None):
            asked.append(range(step, step + 1))
            return super().look(images, step, draws=draws)

        def confirmed(self, images, look, step, judge, draws):
            asked.append(range(step, step + 3))
            return torch.zeros(len(images), dtype=torch.bool)

    make_attack("fmn", norm="l2")._go_further(Recorder(GREY, lead=100.0), GREY, Nearest(GREY), 10)
    assert asked[0].start == 10
    assert all(one.stop <= other.start for one, other in pairwise(asked))


#: attacks that confirm, with the steps in which some images are fooled and others are not
CONFIRMING = {"pgd": 5, "apgd-targeted": 5, "cw": 5, "fmn": 1, "square": 5, "hopskipjump": 3}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONFIRMING)
def test_fresh_draws_are_fresh(name, monkeypatch):
    """Two looks of an attack at an image share all their draws, as a comparison does, or none."""
    seen = set()
    whole = Classifier.logits

    def logits(self, images, ids, draws):
        if self.stochastic:
            seen.add((draws.indices.start, draws.indices.stop))
        return whole(self, images, ids, draws)

    monkeypatch.setattr(Classifier, "logits", logits)
    model, data = make_model(sigma=3.0), make_data(8)
    few = {"steps": CONFIRMING[name]} | ({"queries": 2} if name == "hopskipjump" else {})
    eps = None if name in ("cw", "fmn", "hopskipjump") else 0.05
    attack = make_attack(name, norm="l2", eps=eps, eot_draws=3, confirm=8, z=0.0, **few)
    attack(model, to_float(data.images), data.labels, data.ids)
    stretches = sorted(seen)
    assert len(stretches) > 3
    assert all(one[1] <= other[0] for one, other in pairwise(stretches)), stretches
