"""Nothing waits for the device inside a solve, and an attack waits for decisions alone.

Without an accelerator: the meta device has shapes and no numbers, so that reading one is an error; and a
dispatch mode sees every operation that a CPU would run.
"""

import pytest
import torch
from builders import make_data, make_model
from torch.utils._python_dispatch import TorchDispatchMode

from robustbench_sde.data import to_float
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.sde.draws import Draws, Stream

#: operations whose result the host has to wait for: a number is read, or a shape depends on numbers
WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "_unique2"}


class Waits(TorchDispatchMode):
    """Counts the operations that an accelerator would make the host wait for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        masks = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        leaves = (
            name == "_to_copy" and args[0].is_meta and (kwargs or {}).get("device") == torch.device("cpu")
        )
        if name in WAITING or masks or leaves:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("none", {}),
        ("none", {"solver": "rk4"}),
        ("additive", {"solver": "heun"}),
        ("multiplicative", {}),
        ("multiplicative", {"solver": "milstein"}),
        ("dropout", {}),
        ("jump", {}),
        ("levy", {}),
        (
            "multiplicative",
            {"architecture": "liu2020", "stem_strides": (1, 1, 2), "blocks": 2, "height": 16, "width": 16},
        ),
    ],
)
def test_a_gradient_never_waits_for_the_device(kind, changes):
    """Stem, noise, every step of the solve, head and the way back run on a device without numbers."""
    spec = make_model(kind, **changes).spec
    with torch.device("meta"):
        model = Classifier(spec).requires_grad_(False).to("meta")
    model = model.with_compute(Compute("meta", noise_backend="device"))
    images = torch.empty(2, *spec.image_shape, device="meta", requires_grad=True)
    with Waits() as waits:
        logits = model.logits(images, torch.arange(2), Draws(0, Stream.ATTACK, range(3)))
        (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.is_meta
    assert not waits.seen


@pytest.mark.parametrize(
    ("attack", "parameters", "decisions"),
    [
        ("pgd", {"eps": 0.1, "settle": False}, 1),
        ("pgd", {"eps": 0.1}, 2),  # who is fooled and has to be asked again, and who stays
        ("apgd-ce", {"eps": 0.1}, 0),
        ("apgd-dlr", {"eps": 0.1}, 0),
        ("cw", {}, 2),  # who is fooled on the walk without noise, and who leaves a round
        ("fmn", {}, 2),  # who seems fooled by its draws, and by the first of the fresh ones
    ],
)
def test_an_attack_waits_for_decisions_alone(attack, parameters, decisions):
    """A further step costs at most so many waits: one for each decision that changes what is computed."""
    model, data = make_model(), make_data(4)
    images = to_float(data.images)

    def waits(steps):
        chosen = make_attack(attack, steps=steps, eot_draws=2, **parameters)
        with Waits() as counted:
            chosen(model, images, data.labels, data.ids)
        return len(counted.seen)

    assert waits(24) - waits(12) <= 12 * decisions
