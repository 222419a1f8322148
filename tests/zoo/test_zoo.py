"""No wrong number without a mark: dishonest and difficult classifiers under attacks whose truth is known.

The whole table, with every attack and norm, is made by `python -m benchmarks.zoo` (docs/protocol.md).
"""

import pytest
import torch
from zoo.animals import ZOO, Around
from zoo.judgement import ATTACKS, BUDGETS, HONEST, Zoo
from zoo.truth import stands_linear, stands_rounded, stands_strong

import robustbench_sde as rb
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError

SHORT = ATTACKS | {"pgd": {"steps": 8}, "auto": {"steps": 5}, "fmn": {"steps": 30}}
SLOW = ("JPEG inside", "masked: gradient of noise")
ACCEPTED = [animal for animal in ZOO if animal.nature != "refused"]


@pytest.fixture(scope="module")
def zoo():
    """The zoo with short attacks."""
    return Zoo(SHORT)


def attacks_of(animal):
    """Choose the attacks for a test of seconds: random animals and slow ones have one."""
    return ["pgd"] if animal.random or animal.name in SLOW else ["pgd", "fmn", "auto"]


def norms_of(animal):
    """Choose the norms for a test of seconds."""
    return ["linf"] if animal.nature == "honest" or animal.name in SLOW else list(BUDGETS)


@pytest.mark.parametrize(
    ("animal", "norm"), [(a, n) for a in ACCEPTED for n in norms_of(a)], ids=lambda value: str(value)
)
def test_every_row_is_right_or_marked(zoo, animal, norm):
    """It leaves no more than the honest twin and no less than is possible; honest ones have no mark."""
    for name, cell in zoo.cells(animal, norm, attacks_of(animal)).items():
        assert cell.outcome != "WRONG", (name, cell)
        if animal.nature == "honest":
            assert cell.outcome == "right", (name, cell)


@pytest.mark.parametrize("animal", [animal for animal in ZOO if animal.nature == "refused"], ids=repr)
def test_what_is_no_function_of_an_image_is_refused(zoo, animal):
    """The message comes before any row is made, and says what is wrong."""
    with pytest.raises(BenchError, match=animal.message):
        rb.attack(animal.around(zoo.net), zoo.data, "pgd", eps=0.03, steps=2)


@pytest.mark.parametrize("norm", BUDGETS)
def test_the_exact_truth_is_that_of_a_strong_attack(zoo, norm):
    """An attack that shares no code with it reaches all but two of the images that can be fooled."""
    images, labels, eps = to_float(zoo.data.images), zoo.data.labels, BUDGETS[norm]
    exact = stands_linear(zoo.net, images, labels, norm, eps)
    found = stands_strong(zoo.net, zoo.net, images, labels, norm, eps, steps=30)
    assert 0.2 < exact.double().mean() < 0.8
    assert not (exact & ~found).any()
    assert int((found & ~exact).sum()) <= 2


def test_the_exact_truth_of_rounding_is_that_of_a_strong_attack(zoo):
    """Straight-through gradients reach all but two of the images that can be fooled behind eight levels."""
    images, labels = to_float(zoo.data.images), zoo.data.labels
    animal = next(animal for animal in ZOO if animal.name == "rounding to 8 levels")
    exact = stands_rounded(zoo.net, images, labels, 0.06, 7)
    twin = Around(zoo.net, animal.twin)
    found = stands_strong(animal.around(zoo.net), twin, images, labels, "linf", 0.06, steps=30)
    assert not (exact & ~found).any()
    assert int((found & ~exact).sum()) <= 2


def test_a_wrong_number_would_be_seen(zoo):
    """The judge calls a row wrong that is too high or impossibly low and has no mark."""
    row = zoo.rows(HONEST.name, HONEST.around(zoo.net), "linf", ["pgd"])["pgd"]
    truth = zoo.truth(HONEST, "linf")
    for accuracy, outcome in ((row["accuracy"], "right"), (0.9, "WRONG"), (truth - 0.1, "WRONG")):
        changed = row | {"accuracy": accuracy}
        assert zoo._judge(HONEST, "pgd", "linf", changed, row, truth).outcome == outcome
    marked = row | {"accuracy": 0.9, "status": "suspect: so"}
    assert zoo._judge(HONEST, "pgd", "linf", marked, row, truth).outcome == "marked"


def test_gradients_that_mislead_are_counted(zoo):
    """Gradients of the other sign mislead for every image, honest ones for none; ours are not compared."""
    found = {}
    for name in ("honest", "masked: gradient of the other sign"):
        animal = next(animal for animal in ZOO if animal.name == name)
        result = rb.attack(animal.around(zoo.net), zoo.data.subset(10), "pgd", eps=0.03, steps=3)
        found[name] = result.summary.iloc[-1]
        assert (result.records["gradients_misleading"].dropna() == (name != "honest")).all()
    assert found["honest"]["gradients_misleading"] == 0
    assert found["masked: gradient of the other sign"]["gradients_misleading"] == 1
    assert "misleading" in found["masked: gradient of the other sign"]["status"]


@pytest.mark.parametrize("name", ["LinfPGD", "L2DeepFoolAttack"])
def test_gradients_that_mislead_attacks_of_foolbox_are_counted(zoo, name):
    """Whatever loss another library has, gradients of the other sign mislead it, and honest ones do not."""
    for animal in ZOO:
        if animal.name in ("honest", "saturated: logits x 10000", "masked: gradient of the other sign"):
            steps = {"steps": 3} if name == "LinfPGD" else {}
            attack = {f"foolbox:{name}": steps}
            result = rb.attack(animal.around(zoo.net), zoo.data.subset(10), attack, eps=0.3)
            misleading = result.records["gradients_misleading"].dropna()
            assert len(misleading) > 0
            assert (misleading == animal.name.startswith("masked")).all(), animal


@pytest.mark.parametrize("name", ["noise", "square", "hopskipjump"])
def test_points_without_logits_are_no_robustness(zoo, name):
    """An attack without gradients that could not judge its points has no number."""
    animal = next(animal for animal in ZOO if animal.name == "NaN at images that are not of 8 bits")
    with pytest.raises(InvalidEvaluationError, match=f"points that {name} tried are not finite for"):
        rb.attack(animal.around(zoo.net), zoo.data.subset(3), {name: SHORT[name]}, eps=0.03)


def test_noise_that_few_passes_show_is_noise(zoo):
    """A module that draws numbers is random, even if the first passes agree; its own generator is refused."""
    rarely, own = (
        next(animal for animal in ZOO if animal.name == name)
        for name in ("noise in 1 % of passes", "noise of its own generator in 1 % of passes")
    )
    with torch.random.fork_rng():
        result = rb.attack(rarely.around(zoo.net), zoo.data.subset(4), "noise", eps=0.03)
    assert set(result.summary["noise"]) == {"opaque"}
    with pytest.raises(BenchError, match="seeds of torch, numpy and Python do not reach"):
        rb.attack(own.around(zoo.net), zoo.data, "pgd", eps=0.03, steps=2)


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1e4])
def test_distances_of_carlini_and_wagner_do_not_depend_on_the_scale_of_logits(zoo, scale):
    """Every image is fooled, and the median distance is within 15 % of that on the network itself."""
    images = zoo.data.subset(20)
    median = {}
    for factor in (1.0, scale):
        module = Around(zoo.net, lambda net, x, k=factor: k * net(x)).eval()
        row = rb.attack(module, images, "cw", norm="l2", eps=None, steps=30).summary.iloc[-1]
        assert row["accuracy"] == 0
        median[factor] = row["distance_median"]
    assert median[scale] == pytest.approx(median[1.0], rel=0.15)
