"""Modules whose logits depend on more than the image: found wherever in the batch the difference lies."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from builders import make_data, make_model
from models.modules import Apply, KeyedNet, Net, noisy
from scipy.stats import f_oneway
from torch import nn
from torch.nn import functional as F
from torchdiffeq import odeint, odeint_adjoint

from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.modules import independence
from robustbench_sde.models.modules.adapter import DRAWS_PER_PASS, Normalisation
from robustbench_sde.models.modules.examine import examine
from robustbench_sde.models.modules.probe import Probe
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.runs.words import summary_columns
from robustbench_sde.sde.draws import Draws, Stream
from robustbench_sde.storage.schema import SUMMARY, table


def behind(function):
    """Return a network with a function of its logits (B, 4)."""
    return lambda: Net(after=Apply(function)).eval()


def before(function):
    """Return a network with a function of its images (B, 1, 12, 12)."""
    return lambda: Net(before=Apply(function)).eval()


def own_generator(x):
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def frozen_dropout(x):
    torch.manual_seed(0)
    return F.dropout(x, 0.5)


def last_differs(z):
    return torch.cat([z[:-1], z[-1:].roll(1, 1)])


def earlier(z):
    return z + 0.5 * (z.cumsum(0) - z)


def later(z):
    return earlier(z.flip(0)).flip(0)


def place_of_row(row):
    """Return a function that changes the logits of one row of a batch, and no other."""

    def change(z):
        return torch.cat([z[:row], z[row : row + 1].roll(1, 1), z[row + 1 :]])

    return change


class AttentionOverTheBatch(nn.Module):
    """Attention whose sequence is the batch: batch_first was forgotten."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.MultiheadAttention(16, 2)
        self.first, self.last = nn.Linear(144, 16), nn.Linear(16, 4)

    def forward(self, x):
        h = self.first(x.flatten(1))[:, None]
        return self.last(self.inner(h, h, h)[0][:, 0])


class KeyedButMixed(KeyedNet):
    """A keyed network whose noise reaches the next image."""

    def forward_with_noise(self, images, noise):
        return super().forward_with_noise(images, noise + noise.roll(1, 0))


DEPENDENT = {
    "generator made anew in forward": (before(own_generator), "place in the batch"),
    "seed set in forward": (before(frozen_dropout), "place in the batch"),
    "sum over earlier images": (behind(earlier), "images before it"),
    "sum over later images": (behind(later), "images after it"),
    "mean over the batch": (behind(lambda z: z - z.mean(0)), "images beside it"),
    "last image": (behind(last_differs), "place in the batch"),
    "row 0": (behind(place_of_row(0)), "place in the batch"),
    "row 37": (behind(place_of_row(37)), "place in the batch"),
    "row 200, which attacks alone have": (behind(place_of_row(200)), "size of the batch"),
    "size": (behind(lambda z: z * len(z)), "size of the batch"),
    "size above 100": (behind(lambda z: z.roll(int(len(z) > 100), 1)), "size of the batch"),
    "attention": (lambda: AttentionOverTheBatch().eval(), "images beside it"),
    "batch statistics by function": (
        before(lambda x: F.batch_norm(x, None, None, training=True)),
        "images beside it",
    ),
    "keyed noise of a neighbour": (lambda: KeyedButMixed().eval(), "images beside it|place in the batch"),
}


@pytest.mark.parametrize("name", DEPENDENT)
def test_a_module_that_is_no_function_of_the_image_is_refused(name):
    """The error names what the logits depend on, whichever row of whichever batch shows it."""
    make, cause = DEPENDENT[name]
    with pytest.raises(BenchError, match=f"depend on .*({cause})") as caught:
        examine(make(), make_data(80), name="net")
    assert "\n" not in str(caught.value)


class Estimators(nn.Module):
    """Eight random estimators of every image, averaged over the right axis or over images."""

    def __init__(self, right):
        super().__init__()
        self.net, self.right = Net(), right

    def forward(self, x):
        draws = F.dropout(self.net(x.repeat(8, 1, 1, 1)), 0.2)  # estimator-major: (8 B, classes)
        return draws.view(8, -1, 4).mean(0) if self.right else draws.view(-1, 8, 4).mean(1)


def frozen_and_free(x):
    return noisy(x) + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def test_noisy_modules_get_the_same_tests_under_equal_seeds():
    """An average over the wrong axis and noise frozen to rows are refused; right averages are not."""
    data = make_data(40)
    with pytest.raises(BenchError, match=r"under equal seeds .* images beside it .*wrong axis"):
        examine(Estimators(right=False).eval(), data, name="net")
    with pytest.raises(BenchError, match="belongs to the place in the batch and is the same in every pass"):
        examine(Net(before=Apply(frozen_and_free)).eval(), data, name="net")
    for fine in (Estimators(right=True), Net(before=Apply(noisy))):
        interface = examine(fine.eval(), data, name="net").interface
        assert (interface.noise, interface.alone) == ("opaque", False)


class Solved(nn.Module):
    """A small neural ODE by torchdiffeq."""

    def __init__(self, solve, **how):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.solve, self.how = solve, how
        self.field, self.net = nn.Linear(144, 144), Net()
        with torch.no_grad():
            self.field.weight.copy_(torch.randn(144, 144, generator=generator) / 4)

    def forward(self, x):
        def f(t, h):
            return torch.tanh(self.field(h))

        options = {"adjoint_params": tuple(self.field.parameters())} if self.solve is odeint_adjoint else {}
        h = self.solve(f, x.flatten(1), torch.tensor([0.0, 1.0]), **self.how, **options)[-1]
        return self.net(h.view_as(x))


ADAPTIVE = {"method": "dopri5", "rtol": 1e-2, "atol": 1e-2}


def test_an_adaptive_solver_is_solved_one_image_a_pass():
    """It is batch-dependent: no batch size moves a record or an attacked image, gradients stay apart."""
    data = make_data(12)
    interface, notes = examine(Solved(odeint, **ADAPTIVE).eval(), data, name="net")
    assert interface.alone
    assert any("batch-dependent" in note for note in notes)
    model = interface.around(Solved(odeint, **ADAPTIVE).eval())
    assert model.noise == "none, batch-dependent"
    attack = make_attack("pgd", eps=0.05, steps=2)
    one, many = (evaluate(model, data, attack, ScoreSettings(rows=rows)) for rows in (1, 64))
    assert 1e-4 < one.row["batch_dependence"] < 0.05
    shown = {column.heading: column.text for column in summary_columns(table([one.row], SUMMARY))}
    assert shown["batch-dependent"](one.row) == f"{one.row['batch_dependence']:.1e}"
    assert torch.equal(one.images, many.images)
    pd.testing.assert_frame_equal(one.records, many.records)
    images = to_float(data.images).requires_grad_()
    (gradient,) = torch.autograd.grad(
        model.logits(images, data.ids, Draws(0, Stream.SCORE))[0, 0].sum(), images
    )
    assert gradient[0].any()
    assert not gradient[1:].any()


@pytest.mark.parametrize(
    ("solve", "how", "alone"),
    [
        (odeint, {"method": "dopri5", "rtol": 1e-6, "atol": 1e-6}, True),
        (odeint, {"method": "rk4", "options": {"step_size": 0.25}}, False),
    ],
)
def test_a_gradient_that_reaches_other_images_is_found(solve, how, alone):
    """At a tight tolerance logits agree and gradients do not: d logit(image 0) / d image 1 is not 0."""
    assert examine(Solved(solve, **how).eval(), make_data(12), name="net").interface.alone is alone


def scaled_by_the_batch(x):
    """Divide by the largest value of the batch, which every image of `one_scale` has."""
    return x / x.detach().max()


def one_scale(count):
    """Images that all have a black and a white pixel."""
    data = make_data(count)
    data.images[:, 0, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)
    return data


@pytest.mark.parametrize("noise", [False, True])
def test_what_only_made_up_images_do_to_others_is_found(noise):
    """A scaling by the batch's largest value shows nothing on clean images; an attack's would move others."""
    net = Net(before=Apply(lambda x: (noisy if noise else nn.Identity())(scaled_by_the_batch(x)))).eval()
    data = one_scale(40)
    interface, notes = examine(net, data, name="net")
    assert interface.alone
    assert interface.batch_dependence > 0.01
    model = interface.around(net)
    assert model.noise == f"{'opaque' if noise else 'none'}, batch-dependent"
    if not noise:
        assert any("dark or noisy images beside it" in note for note in notes)
        dark = to_float(data.images) * torch.linspace(0.2, 1, 40)[:, None, None, None]
        together = model.logits(dark, data.ids, Draws(0, Stream.SCORE))[0]
        alone = [model.logits(one[None], [0], Draws(0, Stream.SCORE))[0] for one in dark]
        assert torch.equal(together, torch.cat(alone))


class FixedPoint(nn.Module):
    """A deep equilibrium network, iterated until the whole batch has converged."""

    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        start, z = self.net(x), torch.zeros(len(x), 4)
        for _ in range(200):
            z, before = 0.9 * torch.tanh(z + 0.1 * start), z
            if (z - before).abs().max() < 1e-3:
                break
        return 5 * z


def test_iterations_that_stop_together_are_run_apart():
    """Fixed points that are iterated until all images have converged depend on the others a little."""
    interface = examine(FixedPoint().eval(), make_data(40), name="net").interface
    assert interface.alone
    assert 1e-4 < interface.batch_dependence < 5e-2


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda z: z.roll(int(len(z) == 100), 1), id="at one size"),
        pytest.param(lambda z: z.roll(int(len(z) > 300), 1), id="above 300"),
        pytest.param(lambda z: torch.cat([z[:256], 0 * z[256:]]), id="rows that are cut"),
    ],
)
def test_sizes_that_nobody_has_examined_are_looked_at_when_they_are_used(place):
    """A batch of a new size gives the logits that single images have, or the row is invalid."""
    data, net = make_data(320), behind(place)()
    model = examine(net, data, name="net").interface.around(net)
    evaluate(model, data, Clean(), ScoreSettings(rows=64))

    def score_at_other_sizes():
        for rows in (100, 320):
            evaluate(model, data, Clean(), ScoreSettings(rows=rows))

    with pytest.raises(InvalidEvaluationError, match=r"net: in a batch of \d+ the logits of image \d+ are"):
        score_at_other_sizes()


@pytest.mark.parametrize("rows", [77, 90, 100])
def test_every_size_of_a_gradient_is_looked_at(rows):
    """A module that mixes images at one size, in passes with a gradient alone, gives no row at that size."""
    net = behind(lambda z: z.roll(int(z.requires_grad and len(z) == rows), 1))()
    data = make_data(100)
    model = examine(net, data, name="net").interface.around(net)
    attack = make_attack("pgd", eps=0.01, steps=1)
    evaluate(model, data, attack, ScoreSettings(rows=64))
    evaluate(model, data.subset(76), attack, ScoreSettings(rows=76))
    with pytest.raises(InvalidEvaluationError, match=f"net: in a batch of {rows}"):
        evaluate(model, data, attack, ScoreSettings(rows=rows))


def test_every_cell_at_a_size_that_fails_is_invalid():
    """A size is not taken for sound because an earlier cell has met it: no row of the run is ok."""
    net = behind(lambda z: z.roll(int(len(z) > 300), 1))()
    data = make_data(320)
    model = examine(net, data, name="net").interface.around(net)
    for perturbation in (Clean(), Clean(), make_attack("pgd", eps=0.05, steps=1)):
        with pytest.raises(InvalidEvaluationError, match="net: in a batch of 320"):
            evaluate(model, data, perturbation, ScoreSettings(rows=320))


def test_logits_that_lack_rows_are_named():
    """A module that drops equal images from its batch returns too few rows: one sentence says so."""

    def distinct(x):
        return torch.unique(x, dim=0)

    with pytest.raises(BenchError, match=r"net returns \(\d+, 4\) for 256 images; it must return one"):
        examine(Net(before=Apply(distinct)).eval(), make_data(10), name="net")
    late = Net(after=Apply(lambda z: z if len(z) != 70 else z[:-1])).eval()
    model = examine(late, make_data(80), name="net").interface.around(late)
    with pytest.raises(BenchError, match=r"net returns \(69, 4\) for 70 images"):
        evaluate(model, make_data(80), Clean(), ScoreSettings(rows=70))


def test_a_module_may_write_into_its_input():
    """Scaling in place changes nobody's images, in batches, alone, and under gradients."""

    def in_place(x):
        return x.sub_(0.5).mul_(2)

    data = make_data(20)
    changed, plain = (Net(before=Apply(how)).eval() for how in (in_place, lambda x: (x - 0.5) * 2))
    attack = make_attack("pgd", eps=0.05, steps=2)
    for alone in (False, True):
        found = []
        for net in (changed, plain):
            interface = replace(examine(net, data, name="net").interface, alone=alone)
            found.append(evaluate(interface.around(net), data, attack, ScoreSettings(rows=16)))
        assert torch.equal(found[0].images, found[1].images)
        pd.testing.assert_frame_equal(found[0].records, found[1].records)


@pytest.mark.parametrize("watched", [torch.is_grad_enabled, None])
def test_a_module_with_other_logits_under_gradients_is_refused(watched):
    """An attack would see another network than scoring does."""

    def other(x):
        return -x if (x.requires_grad if watched is None else watched()) else x

    with pytest.raises(BenchError, match=r"returns other logits where gradients are computed \(by \d+%\)"):
        examine(Net(before=Apply(other)).eval(), make_data(20), name="net")


def rarely(x):
    return x + 5 * torch.randn_like(x) if torch.rand(()) < 0.001 else x


def bright_ones(x):
    return x + torch.randn_like(x) if x.max() > 0.999 and len(x) == 5 else x


def test_noise_that_a_few_passes_do_not_show_is_found():
    """Code that draws numbers is opaque, whether they are used or not; drawing them later is invalid."""
    data = make_data(20)
    interface = examine(Net(before=Apply(rarely)).eval(), data, name="net").interface
    assert interface.noise == "opaque"
    net = Net(before=Apply(bright_ones)).eval()
    interface = examine(net, data, name="net").interface
    assert interface.noise == "none"
    with pytest.raises(InvalidEvaluationError, match="net draws random numbers, which it did not do"):
        evaluate(interface.around(net), data, Clean(), ScoreSettings(rows=5))


def test_a_module_that_seeds_itself_is_deterministic():
    """Noise that is the same for every image and in every pass is part of the function."""

    def same_noise(x):
        torch.manual_seed(0)
        return x + 0.3 * torch.randn(x.shape[1:])

    net = Net(before=Apply(same_noise)).eval()
    interface = examine(net, make_data(20), name="net").interface
    assert (interface.noise, interface.alone) == ("none", False)
    evaluate(interface.around(net), make_data(20), Clean(), ScoreSettings(rows=5))


@pytest.mark.parametrize(
    "around", [lambda: torch.autocast("cpu", torch.bfloat16), torch.inference_mode, torch.no_grad]
)
def test_what_a_caller_has_around_an_evaluation_changes_no_number(around):
    """Half precision, which no table would show, and modes without gradients are without effect."""
    data, net = make_data(20), Net().eval()
    attack = make_attack("pgd", eps=0.05, steps=2)

    def found(model):
        return evaluate(model, data, attack, ScoreSettings(draws=2)).records

    plain = examine(net, data, name="net").interface
    models = plain.around(net), make_model()
    expected = [found(model) for model in models]
    with around():
        assert examine(net, make_data(20), name="net").interface == plain
        for model, records in zip(models, expected, strict=True):
            pd.testing.assert_frame_equal(found(model), records)


def test_extra_probes_may_raise():
    """A network that checks its range, and an ODE that explodes outside of it, are accepted as they are."""

    def strict(x):
        if x.min() < 0 or x.max() > 1:
            raise ValueError(f"input must be in [0, 1], is in [{x.min():.2f}, {x.max():.2f}]")
        return x

    def explosive(x):
        if x.max() > 1.5:
            raise AssertionError("underflow in dt")
        return x

    for check in (strict, explosive):
        assert examine(Net(before=Apply(check)).eval(), make_data(30), name="net").interface.noise == "none"


def test_images_of_the_data_set_still_refuse():
    """A module that raises on the user's own images fails, in one line, also if it ends the program."""

    def leaves(x):
        raise SystemExit(0)

    with pytest.raises(BenchError, match=r"net wants to end the program \(SystemExit: 0\)"):
        examine(Net(before=Apply(leaves)).eval(), make_data(4), name="net")


def test_a_module_for_batches_only_is_refused():
    """Logits that lose their first axis for a single image are named."""
    with pytest.raises(BenchError, match=r"returns \(4,\) for 1 image"):
        examine(Net(after=Apply(torch.squeeze)).eval(), make_data(20), name="net")


def test_a_difference_of_rounding_is_none():
    """Float noise of 1e-6 relative to the largest logit changes nothing: batches stay."""
    net = Net(after=Apply(lambda z: z * (1 + 1e-6 * (len(z) % 3)))).eval()
    assert not examine(net, make_data(40), name="net").interface.alone


def test_modules_under_no_grad_are_examined():
    """A caller's no_grad changes no finding."""
    with torch.no_grad():
        assert examine(Net().eval(), make_data(12), name="net") == examine(
            Net().eval(), make_data(12), name="net"
        )


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_shared_noise_is_found_by_an_analysis_of_variance(monkeypatch, share):
    """The level at which it is called shared is the p-value of scipy's one-way test of the passes."""

    def partly(x):
        own, common = torch.randn_like(x), torch.randn_like(x[:1])
        return x + 0.3 * ((1 - share) * own + 0.2 * share * common) + 0.1 * own

    probe = Probe(Net(before=Apply(partly)).eval(), make_data(), "net", Normalisation())
    copies = probe.images(1).repeat(DRAWS_PER_PASS, 1, 1, 1)
    passes = torch.stack([probe.run(copies, seed=seed) for seed in range(independence._PASSES)]).double()
    p = min(f_oneway(*passes[:, :, k].numpy()).pvalue for k in range(4)) * 4
    assert 1e-200 < p < 0.5
    for level, shared in ((1.01 * p, True), (0.99 * p, False)):
        monkeypatch.setattr(independence, "_ALPHA", level)
        assert independence._rows_share_noise(probe) is shared
