"""No wrong number without a mark: dishonest and difficult networks under every attack.

The truth of an animal is what the same attack leaves of its honest twin, which decides the same on every image and
whose gradients can be followed. The table of docs/protocol.md is made from these tests.
"""

import math

import pytest
from zoo.animals import ZOO, Animal, Around

import robustbench_sde as rb
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.statistics import wilson

IMAGES = 40
BUDGETS = {"linf": 0.06, "l2": 1.0}
ATTACKS = {
    "pgd": {},
    "apgd-ce": {"steps": 20},
    "apgd-dlr": {"steps": 20},
    "apgd-targeted": {"steps": 5},
    "fmn": {},
    "cw": {"steps": 10},
    "square": {"steps": 100},
    "auto": {"steps": 10},
}
CASES = [(attack, norm) for attack in ATTACKS for norm in BUDGETS if not (attack == "cw" and norm == "linf")]
KEPT = [animal for animal in ZOO if animal.fate == "right"]
#: A row is marked if it is not ok, or if it says that gradients could not be followed.
HEALTH = ("gradients_zero", "gradients_not_finite", "gradients_saturated")


@pytest.fixture(scope="module")
def net(request):
    """The shipped ODE as a module that is deterministic."""
    path = request.config.rootpath / "checkpoints" / "digits-ode.safetensors"
    return rb.load_checkpoint(path).as_module(draws=1).eval()


@pytest.fixture(scope="module")
def images():
    """Embedded digits."""
    return rb.load_dataset("digits", images=IMAGES)


@pytest.fixture(scope="module")
def rows(net, images):
    """Rows by forward, attack and norm; each is made once."""
    known = {}

    def row(forward, attack, norm):
        key = (forward, attack, norm)
        if key not in known:
            module = Around(net, forward).eval()
            found = rb.attack(module, images, attack, norm=norm, eps=BUDGETS[norm], **ATTACKS[attack])
            known[key] = found.summary.iloc[-1]
        return known[key]

    return row


def marked(row):
    """Whether the row says itself that its number may be wrong."""
    return row["status"] != "ok" or any(row[name] > 0.05 for name in HEALTH if not math.isnan(row[name]))


@pytest.mark.parametrize(("attack", "norm"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("animal", KEPT, ids=repr)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_row_is_right_or_marked(rows, animal: Animal, attack, norm):
    """What is left lies within the interval of what the honest twin keeps, or the row says why not."""
    row = rows(animal.forward, attack, norm)
    twin = rows(animal.twin or ZOO[0].forward, attack, norm)
    truth = wilson(twin["accuracy"], IMAGES)
    assert row["accuracy"] <= truth.high or marked(row), (row["accuracy"], twin["accuracy"], row["status"])


@pytest.mark.parametrize("animal", [one for one in ZOO if one.fate == "refused"], ids=repr)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_no_function_of_an_image_is_refused(net, images, animal: Animal):
    """The message comes before any row is made, and says what is wrong."""
    with pytest.raises(BenchError, match=animal.message):
        rb.attack(Around(net, animal.forward).eval(), images, "pgd", eps=0.03, steps=2)
