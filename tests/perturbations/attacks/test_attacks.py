"""Every attack, as a table: a new one is one row."""

import dataclasses
import inspect
from dataclasses import replace

import pytest
import torch
from builders import make_data, make_model
from torch import nn

import robustbench_sde as rb
from docs.make_pages import attacks_page
from robustbench_sde.data import to_float
from robustbench_sde.errors import BenchError, InvalidEvaluationError
from robustbench_sde.perturbations.attacks.base import Attack, Control, SingleAttack
from robustbench_sde.perturbations.attacks.losses import cross_entropy, margin_loss
from robustbench_sde.perturbations.attacks.registry import ATTACKS, make_attack
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import SLACK, TOLERANCE, Batch, verify
from robustbench_sde.perturbations.norms import NORMS, Ball
from robustbench_sde.sde.draws import Draws, Stream

#: (attack, parameters that make it quick)
TABLE = [
    ("pgd", {"norm": "linf", "eps": 0.1, "steps": 4}),
    ("pgd", {"norm": "l2", "eps": 0.8, "steps": 4, "restarts": 2}),
    ("cw", {"eps": 0.8, "steps": 6, "binary_search_steps": 2, "learning_rate": 0.1}),
    ("cw", {"steps": 6, "binary_search_steps": 2, "learning_rate": 0.1, "restarts": 2}),
    ("apgd-ce", {"norm": "linf", "eps": 0.1, "steps": 6}),
    ("apgd-ce", {"norm": "l2", "eps": 0.8, "steps": 6, "restarts": 2}),
    ("apgd-dlr", {"norm": "linf", "eps": 0.1, "steps": 6}),
    ("apgd-targeted", {"norm": "linf", "eps": 0.1, "steps": 3}),
    ("apgd-targeted", {"norm": "l2", "eps": 0.8, "steps": 3, "targets": 2}),
    ("fmn", {"steps": 8}),
    ("fmn", {"norm": "linf", "eps": 0.1, "steps": 8, "restarts": 2}),
    ("square", {"norm": "linf", "eps": 0.2, "steps": 40}),
    ("square", {"norm": "l2", "eps": 0.8, "steps": 12, "restarts": 2}),
    ("noise", {"norm": "linf", "eps": 0.2}),
    ("noise", {"norm": "l2", "eps": 3.0}),
    ("auto", {"norm": "linf", "eps": 0.1, "steps": 3}),
    ("auto", {"norm": "l2", "eps": 0.8, "steps": 3, "restarts": 2}),
    ("transfer", {"norm": "linf", "eps": 0.1, "steps": 5}),
    ("fixed-path", {"norm": "linf", "eps": 0.1, "steps": 5}),
    ("other-solver", {"norm": "linf", "eps": 0.1, "steps": 5, "on_solver": "heun", "on_steps": 4}),
    ("liu2020", {"eps": 0.8, "steps": 4}),
    ("hopskipjump", {"norm": "l2", "steps": 1, "queries": 2, "confirm": 3}),
    ("hopskipjump", {"norm": "linf", "eps": 0.4, "steps": 1, "queries": 2, "confirm": 3}),
    ("foolbox:LinfPGD", {"eps": 0.1, "steps": 3}),
    ("foolbox:L2FastGradientAttack", {"eps": 0.8, "restarts": 2}),
]
ATTACK_ROWS = pytest.mark.parametrize(
    "attack", [make_attack(n, **p, eot_draws=3, select_draws=8) for n, p in TABLE], ids=str
)
#: what an attack draws from besides the `select` stream, where it is not the `attack` stream
STREAMS: dict[str, set[Stream]] = {
    "noise": set(),
    "auto": {Stream.ATTACK, Stream.SELECT},
    "fixed-path": {Stream.AUDIT},
}
KINDS = pytest.mark.parametrize("kind", ["none", "multiplicative"])


def run(attack, model, data, **options):
    return attack(model, to_float(data.images), data.labels, data.ids, **options)


class Somebodys(nn.Module):
    """A module whose weights want gradients, as they do after its training."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.random.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x):
        return self.net(x)


def test_the_page_of_the_attacks_is_current(request):
    """docs/attacks.md is what `make tables` writes; a parameter without a comment fails here."""
    assert (request.config.rootpath / "docs" / "attacks.md").read_text() == attacks_page()


def test_every_attack_is_in_the_table():
    """The table has a row for each registered attack."""
    assert {name for name, _ in TABLE if not name.startswith("foolbox:")} == set(ATTACKS)


#: Attacks that need the noise or the solver of one of our networks.
OURS = {"transfer": "cannot be switched off", "other-solver": "solve"}
#: Attacks of foolbox that look at a point with and without a graph.
FOOLBOX = [("foolbox:L2DeepFoolAttack", {}), ("foolbox:LinfDeepFoolAttack", {}), ("foolbox:L2FMNAttack", {}),
           ("foolbox:LinfAdditiveUniformNoiseAttack", {"eps": 0.1})]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "parameters"), TABLE + FOOLBOX, ids=lambda value: str(value))
def test_every_attack_runs_on_a_module_whose_weights_want_gradients(name, parameters):
    """A row is made, or one line says what of our own networks the attack needs."""
    parameters = {"eps": None} | parameters
    if name in OURS:
        with pytest.raises(BenchError, match=OURS[name]):
            rb.attack(Somebodys().eval(), make_data(4), name, **parameters)
    else:
        row = rb.attack(Somebodys().eval(), make_data(4), name, **parameters).summary.iloc[-1]
        assert row["status"] == "ok"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["pgd", "foolbox:LinfPGD", "foolbox:L2DeepFoolAttack", "foolbox:L2FMNAttack"]
)
@pytest.mark.parametrize("trained", [True, False], ids=["weights want gradients", "frozen weights"])
def test_a_module_without_a_graph_is_told_so_in_one_line(name, trained):
    """Attacks of foolbox say it as ours do, also where only the weights have a graph."""

    class Detached(Somebodys):
        def forward(self, x):
            return super().forward(x.detach())

    module = Detached().eval().requires_grad_(trained)
    with pytest.raises(BenchError, match="no gradient of Detached reaches the images"):
        rb.attack(
            module, make_data(3), name, norm="linf" if "inf" in name or name == "pgd" else "l2", eps=0.1
        )


@ATTACK_ROWS
@KINDS
def test_perturbed_images_are_valid_and_hurt(attack, kind):
    """Images stay finite, in [0, 1] and in the ball, and the mean probability of the label falls."""
    model, data = make_model(kind), make_data()
    clean, draws = to_float(data.images), Draws(9, Stream.AUDIT, range(64))
    predicted = model.logits(clean, data.ids, draws).softmax(-1).mean(0).argmax(1)
    data = dataclasses.replace(data, labels=predicted)  # nothing to do on images that are wrong already
    perturbed = run(attack, model, data)
    verify(clean, perturbed.images, data.ids, attack.budget)

    def label_probability(images):
        probs = model.logits(images, data.ids, draws).softmax(-1).mean(0)
        return float(probs.gather(1, data.labels[:, None]).mean())

    assert label_probability(perturbed.images) < label_probability(clean) - 0.01


@ATTACK_ROWS
@KINDS
def test_images_do_not_depend_on_batch_or_order(attack, kind):
    """Attacked one by one or together, forwards or backwards, images agree to 1e-4."""
    model, data = make_model(kind), make_data(3)
    together = run(attack, model, data, rows=1000)
    alone = run(attack, model, data, rows=1)
    backwards = run(attack, model, data.select([2, 1, 0]), rows=6)
    assert torch.allclose(together.images, alone.images, atol=1e-4)
    assert torch.allclose(together.images, backwards.images.flip(0), atol=1e-4)
    assert torch.equal(together.forward_passes, alone.forward_passes)


@pytest.mark.parametrize(
    ("name", "draws"), [("pgd", 3), ("square", 3), ("noise", 0), ("hopskipjump", 5), ("liu2020", 3)]
)
def test_the_draws_of_a_look_are_told(name, draws):
    """An attack reports the draws that it averages in a look: hopskipjump its `confirm`, noise none."""
    own = {"steps": 1, "queries": 2, "confirm": 5} if name == "hopskipjump" else {"steps": 1, "eps": 0.1}
    for kind, told in (("multiplicative", draws), ("none", min(draws, 1))):
        perturbed = run(make_attack(name, **own, eot_draws=3), make_model(kind), make_data(2))
        assert perturbed.eot_draws.tolist() == [told] * 2


@ATTACK_ROWS
def test_the_same_seed_gives_the_same_images_and_another_seed_others(attack):
    """An attack is a function of its seed, but for what `auto` does without noise before any other attack."""
    model, data = make_model(), make_data(4)
    attack = replace(attack, settle=False) if attack.name == "auto" else attack
    first, again, other = (run(attack, model, data, seed=seed).images for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@ATTACK_ROWS
def test_control_returns_the_clean_images_exactly(attack):
    """At eps 0 the whole machinery runs and changes no bit."""
    model, data = make_model(), make_data(4)
    perturbed = run(Control(attack), model, data)
    assert torch.equal(perturbed.images, to_float(data.images))
    assert (perturbed.forward_passes > 0).all()
    assert ((perturbed.backward_passes > 0) == attack.gradients).all()


@ATTACK_ROWS
def test_parameters_stay_frozen_and_global_state_untouched(attack):
    """No gradient reaches a weight; the global generator is neither read nor written."""
    model, data = make_model(), make_data(4)
    state = torch.random.get_rng_state()
    run(attack, model, data)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


class Spy:
    """A model that remembers which streams were drawn and counts rows."""

    def __init__(self, model):
        self._model, self.streams, self.rows = model, set(), 0

    def logits(self, images, ids, draws):
        self.streams.add(draws.stream)
        self.rows += len(images) * len(draws)
        return self._model.logits(images, ids, draws)

    def without_noise(self):
        self._model = self._model.without_noise()
        return self

    def with_solver(self, **options):
        self._model = self._model.with_solver(**options)
        return self

    def __getattr__(self, name):
        return getattr(self._model, name)


@ATTACK_ROWS
@KINDS
def test_the_attacker_never_draws_from_the_score_stream_and_passes_are_counted(attack, kind):
    """Invariant 2; and the reported forward passes are those that the model has seen."""
    spy, data = Spy(make_model(kind)), make_data(5)
    perturbed = run(attack, spy, data)
    assert spy.streams == STREAMS.get(attack.name, {Stream.ATTACK}) | (
        {Stream.SELECT} if attack.restarts > 1 else set()
    )
    assert int(perturbed.forward_passes.sum()) == spy.rows


def test_pgd_passes_are_steps_times_draws():
    """20 steps of 8 draws cost 160 gradients and one more look."""
    attack = make_attack("pgd", norm="linf", eps=0.1, steps=20, eot_draws=8, settle=False)
    perturbed = run(attack, make_model(), make_data(3))
    assert perturbed.backward_passes.tolist() == [160] * 3
    assert perturbed.forward_passes.tolist() == [168] * 3


def test_draws_of_steps_and_restarts_are_disjoint():
    """No two gradients of an attack see the same draw."""
    seen = []

    class Recorder(Spy):
        def logits(self, images, ids, draws):
            if draws.stream == Stream.ATTACK:
                seen.extend(draws.indices)
            return super().logits(images, ids, draws)

    run(make_attack("pgd", eps=0.1, steps=5, restarts=3, eot_draws=4), Recorder(make_model()), make_data(2))
    assert len(seen) == len(set(seen)) == 3 * 6 * 4


def victim(model, data, draws=16, rows=256):
    batch = Batch(to_float(data.images), data.labels, data.ids)
    return batch, Victim(model, batch, seed=0, eot_draws=draws, restart=0, rows=rows)


def test_gradient_is_of_the_loss_of_the_mean_probability():
    """The EOT gradient equals autograd on -log mean_k p_k(y), not on the mean of the losses."""
    model, data = make_model(), make_data(3)
    batch, eye = victim(model, data, draws=4)
    _, gradient = eye.gradient(batch.images, step=2)
    x = batch.images.clone().requires_grad_()
    probs = model.logits(x, data.ids, Draws(0, Stream.ATTACK, range(8, 12))).softmax(-1).mean(0)
    loss = -probs.gather(1, data.labels[:, None]).log().sum()
    assert torch.allclose(gradient, torch.autograd.grad(loss, x)[0], atol=1e-6)


@pytest.mark.parametrize("objective", [cross_entropy, margin_loss])
@pytest.mark.parametrize("rows", [1, 6, 9])
def test_draws_in_pieces_give_the_gradient_of_all(objective, rows):
    """No pass has more rows than allowed, gradient and margins are the same, and so are the passes."""
    most = 0

    class Counter(Spy):
        def logits(self, images, ids, draws):
            nonlocal most
            most = max(most, len(images) * len(draws))
            return super().logits(images, ids, draws)

    model, data = make_model(), make_data(3)
    batch, whole = victim(model, data, draws=11)
    _, pieces = victim(Counter(model), data, draws=11, rows=rows)
    (look, gradient), (same_look, same) = (
        eye.gradient(batch.images, 2, objective) for eye in (whole, pieces)
    )
    assert torch.allclose(gradient, same, rtol=1e-4, atol=1e-7)
    assert torch.allclose(look.margin, same_look.margin, atol=1e-5)
    assert most <= max(rows, len(data))
    assert pieces.forward_passes.tolist() == [11] * 3
    assert pieces.backward_passes.tolist() == [11] * 3


def test_margin_and_its_error_are_those_of_the_draws():
    """The margin is a log ratio of mean probabilities; its error is close to a bootstrap over draws."""
    model, data = make_model(sigma=1.5), make_data(6)
    batch, eye = victim(model, data, draws=400)
    look = eye.look(batch.images, 0)
    probs = model.logits(batch.images, data.ids, Draws(0, Stream.ATTACK, range(400))).softmax(-1)
    generator = torch.Generator().manual_seed(0)

    def margin(sample):
        mean = probs[sample].mean(0)
        right = mean.gather(1, data.labels[:, None])[:, 0]
        return right.log() - mean.scatter(1, data.labels[:, None], 0).amax(1).log()

    boot = torch.stack([margin(torch.randint(0, 400, (400,), generator=generator)) for _ in range(400)])
    assert torch.allclose(look.margin, margin(torch.arange(400)), atol=1e-5)
    assert torch.allclose(look.error / boot.std(0), torch.ones(6), atol=0.25)


def test_margin_loss_of_one_draw_is_the_logit_difference():
    """The margin loss of a deterministic model is max_{j != y} z_j - z_y."""
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    labels = torch.tensor([1])
    assert margin_loss(logits.log_softmax(-1), labels).item() == pytest.approx(3.0)
    assert cross_entropy(logits.log_softmax(-1), labels).item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item()
    )


@pytest.mark.parametrize("name", sorted(NORMS))
def test_random_points_are_in_the_ball_and_reach_far(name):
    """Random starts stay inside, and some come near the surface."""
    from robustbench_sde.sde.draws import KeyedRandom

    norm = NORMS[name]
    like = torch.zeros(200, 1, 2, 2)
    points = norm.random(KeyedRandom(0, Stream.ATTACK, "x"), torch.arange(200), like, draw=0)
    sizes = norm.size(points)
    assert sizes.max() <= 1 + 1e-6
    assert sizes.max() > 0.97
    assert sizes.min() < 0.6


@pytest.mark.parametrize("name", sorted(NORMS))
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_steepest_steps_have_size_one_whatever_the_scale(name, scale):
    """Gradients that are tiny or huge give a full step; a zero gradient gives none."""
    norm = NORMS[name]
    gradient = torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0)) * scale
    assert torch.allclose(norm.size(norm.steepest(gradient)), torch.ones(4), atol=1e-5)
    assert norm.steepest(torch.zeros_like(gradient)).abs().max() == 0


FAULTS = {
    "is not finite": lambda x: x.index_fill(3, torch.tensor([0]), torch.nan),
    r"leaves \[0, 1\]": lambda x: x - 1e-3,
    "leaves the ball": lambda x: (x + 0.2).clamp(0, 1),
    "the originals": lambda x: x.double(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_attack_that_cheats_is_caught(fault):
    """Invariant 5: whatever an attack returns is verified, never clipped in silence."""

    class Cheat(SingleAttack):
        name = "cheat"

        def run(self, victim, images, start, restart):
            return FAULTS[fault](images)

    with pytest.raises(InvalidEvaluationError, match=fault):
        run(Cheat(norm="linf", eps=0.1), make_model(), make_data(3))


def test_the_ball_has_no_more_slack_than_stated():
    """A change of eps + 2 slack is refused, one of eps + slack / 2 is not."""
    clean = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    ball = Ball(NORMS["linf"], 0.1)
    verify(clean, clean + 0.1 + TOLERANCE / 2, torch.tensor([0]), ball)
    with pytest.raises(InvalidEvaluationError):
        verify(clean, clean + 0.1 + 2 * TOLERANCE, torch.tensor([0]), ball)


@pytest.mark.parametrize("eps", [2.0, 5.0])
def test_rounding_takes_no_large_image_out_of_its_ball(eps):
    """A projection onto an L2 ball passes verification, also with 150,000 entries."""
    generator = torch.Generator().manual_seed(0)
    clean = 0.3 + 0.4 * torch.rand((8, 3, 224, 224), generator=generator)
    ball = Ball(NORMS["l2"], eps)
    moved = ball.project(clean, clean + torch.randn(clean.shape, generator=generator))
    verify(clean, moved, torch.arange(8), ball)
    assert (moved.double() - clean.double()).flatten(1).norm(dim=1).max() < eps + SLACK


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("pdg", {"eps": 0.1}, "did you mean 'pgd'"),
        ("pgd", {"eps": -0.1}, "eps"),
        ("pgd", {"eps": 1.1}, "eps"),
        ("pgd", {"eps": float("nan")}, "eps"),
        ("pgd", {}, "budget"),
        ("pgd", {"eps": 0.1, "steps": 0}, "steps"),
        ("pgd", {"eps": 0.1, "steps": 2.5}, "whole number"),
        ("pgd", {"eps": 0.1, "eot_draws": 0}, "eot_draws"),
        ("pgd", {"eps": 0.1, "norm": "l3"}, "norm"),
        ("pgd", {"eps": 0.1, "stpes": 3}, "did you mean 'steps'"),
        ("cw", {"norm": "linf"}, "norm"),
        ("pgd", {"eps": "much"}, "eps is 'much'; it must be a number"),
        ("pgd", {"eps": True}, "eps is True; it must be a number"),
        ("pgd", {"eps": 0.1, "steps": True}, "steps is True; it must be a whole number"),
        ("pgd", {"eps": 0.1, "step_size": [0.01, 0.02]}, "it must be a number"),
        ("pgd", {"eps": 0.1, "step_size": "abc"}, "it must be a number"),
        ("pgd", {"eps": 0.1, "step_size": 10**400}, "it must be a number"),
        ("pgd", {"eps": 0.1, "step_size": 0}, "above 0"),
        ("pgd", {"eps": 0.1, "z": float("nan")}, "it must be a number"),
        ("pgd", {"eps": 0.1, "z": -1}, "at least 0"),
        ("pgd", {"eps": 0.1, "confirm": -1}, "`confirm` is -1; it must be at least 1"),
        ("pgd", {"eps": 0.1, "settle": "maybe"}, "it must be true or false"),
        ("pgd", {"eps": 0.1, "norm": None}, "norm is None; it must be text"),
        ("pgd", {"eps": 0.1, "passes": 0}, "`passes` is 0; it must be at least 1"),
        ("square", {"eps": 0.1, "share": "wide"}, "share is 'wide'; it must be a number"),
        ("hopskipjump", {"queries": 0}, "`queries` is 0; it must be at least 1"),
        ("cw", {"binary_search_steps": 0}, "`binary_search_steps` is 0; it must be at least 1"),
        ("cw", {"learning_rate": 0.0}, "above 0"),
        ("other-solver", {"eps": 0.1, "on_steps": 0}, "`on_steps` is 0; it must be at least 1"),
        ("fixed-path", {"eps": 0.1, "draw": -1}, "`draw` is -1; it must be at least 0"),
        ("auto", {"eps": 0.1, "depth": 0}, "`depth` is 0; it must be at least 1"),
        ("fmn", {"growth": 0}, "`growth` is 0.*; it must be between 0 and 1"),
        ("fmn", {"growth": 1.0}, "`growth` is 1.0; it must be between 0 and 1"),
        ("square", {"eps": 0.1, "share": 0.0}, "`share` is 0.0; it must be above 0 and at most 1"),
        ("square", {"eps": 0.1, "share": 1.1}, "`share` is 1.1; it must be above 0 and at most 1"),
    ],
)
def test_wrong_parameters_are_one_sentence(name, parameters, message):
    """Unknown names suggest the nearest; values out of range say the range."""
    with pytest.raises(BenchError, match=message):
        make_attack(name, **parameters)


def test_text_that_is_a_number_is_that_number():
    """Numbers may be written as text; other values stay what they are, and so do the keys of cells."""
    assert make_attack("pgd", eps="8/255", step_size="1e-3") == make_attack(
        "pgd", eps=8 / 255, step_size=1e-3
    )
    assert make_attack("pgd", eps=0.1, target=3).target == "3"
    assert "eps=1, steps=20," in repr(make_attack("pgd", norm="l2", eps=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"images": a["images"][:0]}, "no images"),
        (lambda a: a | {"images": torch.rand(3, 3, 12, 12)}, "shape"),
        (lambda a: a | {"images": a["images"] * 2}, r"\[0, 1\]"),
        (lambda a: a | {"labels": a["labels"] + 4}, "labels"),
        (lambda a: a | {"ids": a["ids"][:2]}, "do not match"),
        (lambda a: a | {"ids": a["ids"] - 1}, "negative"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    """The one entry point checks images, labels and ids."""
    data = make_data(3)
    arguments = change({"images": to_float(data.images), "labels": data.labels, "ids": data.ids})
    with pytest.raises(BenchError, match=message):
        make_attack("pgd", eps=0.1)(make_model(), **arguments)


def test_attacks_cannot_override_the_entry_point():
    """No registered attack defines __call__ or _perturb."""
    for attack in ATTACKS.values():
        for kind in inspect.getmro(attack):
            if kind is Attack:
                break
            assert not {"__call__", "_perturb"} & set(vars(kind))
