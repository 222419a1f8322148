"""The suite beyond the table: strength, honesty about noise, ensembles and diagnostics."""

import math
import pickle
from pathlib import Path

import pytest
import torch
from builders import make_data, make_model

from robustbench_sde.data import load_dataset, to_float
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.cell import evaluate
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.perturbations.attacks.apgd import dlr, targeted_dlr
from robustbench_sde.perturbations.attacks.registry import ATTACKS, attack_kind, make_attack, plan_attacks
from robustbench_sde.perturbations.attacks.victim import Victim
from robustbench_sde.perturbations.base import Batch, Clean
from robustbench_sde.sde.draws import Draws, Stream

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
SETTINGS = ScoreSettings(draws=32)
TINY = {"eps": 1e-9, "steps": 2, "eot_draws": 2}
FIXED = [*sorted(name for name, kind in ATTACKS.items() if not kind.minimal), "foolbox:LinfPGD"]
MINIMAL = sorted(name for name, kind in ATTACKS.items() if kind.minimal and name != "hopskipjump")


def first(data, count):
    return data.select(list(range(count)))


def run(attack, model, data, **options):
    return attack(model, to_float(data.images), data.labels, data.ids, **options)


def row(model, data, name, **parameters):
    return evaluate(model, data, make_attack(name, **parameters), SETTINGS).row


@pytest.fixture(scope="module")
def parts(ode, digits):
    """Accuracy of each attack on 50 images at eps .05, 20 steps each, and of auto."""
    data, budget = first(digits, 50), {"norm": "linf", "eps": 0.05}
    steps = {"square": 100, "noise": 1}
    names = ("pgd", "apgd-ce", "apgd-dlr", "apgd-targeted", "fmn", "square", "noise", "auto", "transfer")
    more = {"auto": {"queries_per_step": 5}, "apgd-targeted": {"targets": 3}, "pgd": {"settle": False}}
    return {
        name: row(ode, data, name, **budget, steps=steps.get(name, 20), **more.get(name, {}))
        for name in names
    }


def test_apgd_is_at_least_as_strong_as_pgd_with_equal_passes(parts):
    """50 digits, the ODE, eps .05: the schedule beats the fixed step within an image."""
    assert parts["apgd-ce"]["backward_passes"] == parts["pgd"]["backward_passes"]
    assert parts["apgd-ce"]["accuracy"] <= parts["pgd"]["accuracy"] + 0.02


def test_auto_is_at_or_below_each_of_its_parts(parts):
    """Worst case per image: no attack alone does better, but for an image (other random starts)."""
    assert parts["auto"]["accuracy"] <= parts["apgd-ce"]["accuracy"] + 1e-9  # the first member, same start
    for name in ("pgd", "apgd-dlr", "apgd-targeted", "fmn", "square", "noise"):
        assert parts["auto"]["accuracy"] <= parts[name]["accuracy"] + 0.02


def test_gradients_beat_the_black_box_and_the_black_box_beats_noise(parts):
    """On an honest model the order is the one that the checklist of Carlini et al. asks for."""
    assert parts["apgd-ce"]["accuracy"] < parts["square"]["accuracy"] < parts["noise"]["accuracy"]


def test_transfer_from_an_ode_to_itself_is_the_direct_attack(parts):
    """Transfer from a network without noise is apgd-ce but for its random start."""
    assert parts["transfer"]["accuracy"] == pytest.approx(parts["apgd-ce"]["accuracy"], abs=0.06)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_square_lowers_the_margin_without_a_single_gradient(norm, kind, monkeypatch):
    """A black box: no backward pass is made, and the mean margin falls on draws that it never saw."""
    model, data = make_model(kind), make_data()
    data = data.__class__(**(vars(data) | {"labels": predictions(model, data)}))

    def refuse(*_, **__):
        raise AssertionError("a gradient was asked for")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    attack = make_attack("square", norm=norm, eps=0.2 if norm == "linf" else 1.0, steps=60, eot_draws=4)
    perturbed = run(attack, model, data)
    assert int(perturbed.backward_passes.sum()) == 0
    assert margin(model, data, perturbed.images).mean() < margin(model, data, to_float(data.images)).mean()


def margin(model, data, images):
    """Mean margin over 64 audit draws: (n,)."""
    batch = Batch(images, data.labels, data.ids)
    eye = Victim(model, batch, seed=77, eot_draws=64, restart=99)
    return eye.look(images, 0).margin


def predictions(model, data):
    draws = Draws(9, Stream.AUDIT, range(64))
    return model.logits(to_float(data.images), data.ids, draws).softmax(-1).mean(0).argmax(1)


@pytest.mark.parametrize("name", FIXED)
def test_nothing_happens_at_a_billionth(sde, digits, name):
    """AutoAttack claims .39 here where the truth is .71. Any attack leaves the accuracy alone."""
    data = first(digits, 16)
    parameters = TINY | ({"restarts": 4} if name in ("pgd", "noise") else {})
    if name == "auto":
        parameters |= {"queries_per_step": 3, "targets": 1}
    if name == "apgd-targeted":
        parameters |= {"targets": 2}
    attack = make_attack(name, **parameters)
    clean = evaluate(attack.defender(sde), data, Clean(), SETTINGS).row
    attacked = evaluate(sde, data, attack, SETTINGS).row
    assert abs(attacked["accuracy"] - clean["accuracy"]) <= 1 / 16
    assert attacked["accuracy_low"] <= clean["accuracy"] <= attacked["accuracy_high"]


@pytest.fixture(scope="module")
def minimal(sde, digits):
    """Records of the minimal-norm attacks on the SDE, 12 images."""
    few = {"eot_draws": 4, "steps": 25}
    more = {"cw": {"binary_search_steps": 3, "learning_rate": 0.05}, "fmn": {}}
    data = first(digits, 12)
    return {
        name: (data, evaluate(sde, data, make_attack(name, **few, **more[name]), SETTINGS))
        for name in MINIMAL
    }


@pytest.mark.parametrize("name", MINIMAL)
def test_minimal_norm_distances_are_real_and_hold_on_fresh_draws(sde, minimal, name):
    """The median distance is not 0, and images past the boundary are wrong on unseen draws too."""
    data, result = minimal[name]
    assert result.row["distance_median"] > 0.1
    moved = result.records["l2"].to_numpy() > 0
    fresh = margin(sde, data, result.images)[torch.from_numpy(moved)] < 0
    assert fresh.float().mean() > 0.85


def test_every_image_names_the_attack_that_hurt_it(sde, digits):
    """Records of an ensemble say which member; of a single attack its name; of clean images nothing."""
    data = first(digits, 6)
    auto = make_attack("auto", eps=0.05, steps=3, queries_per_step=2, eot_draws=2)
    members = {member.name for member in auto.members(sde)} | {"pgd without noise"}
    records = evaluate(sde, data, auto, SETTINGS).records
    assert set(records["chosen"]) <= members
    assert set(evaluate(sde, data, make_attack("pgd", eps=0.05, steps=1), SETTINGS).records["chosen"]) == {
        "pgd"
    }
    assert set(evaluate(sde, data, Clean(), SETTINGS).records["chosen"]) == {""}


def test_settled_images_leave_the_batch_and_cost_less():
    """An image that is wrong from the start, without noise, takes the first member only."""
    model, data = make_model("none"), make_data()
    wrong = (predictions(model, data) + 1) % 4
    data = data.__class__(**(vars(data) | {"labels": wrong}))
    auto = make_attack("auto", eps=1e-3, steps=4, queries_per_step=2)
    assert (run(auto, model, data).backward_passes <= 4).all()


@pytest.mark.parametrize(
    ("passes", "depth", "steps"),
    [(None, 4, 50), (6 * 50, 4, 50), (60, 4, 10), (59, 3, 19), (25, 2, 12), (7, 1, 7)],
)
def test_a_small_budget_goes_to_the_first_members_of_auto(passes, depth, steps):
    """Ten steps for each that runs, or else fewer run; pgd, apgd-ce, fmn and three targets take six."""
    model = make_model("none")
    auto = make_attack("auto", eps=0.1, passes=passes).capped(model)
    assert (auto.depth, auto.steps) == (depth, steps)
    gradients = [member.name for member in auto.members(model) if member.gradients]
    assert gradients == ["pgd", "apgd-ce", "fmn", "apgd-targeted"][:depth]
    assert [member.name for member in auto.members(model)][-1] == "square"


def test_fixed_path_scores_the_path_that_it_attacked(sde, digits):
    """The diagnostic row has one draw of the audit stream, for attack and score alike, and shows it."""
    data = first(digits, 20)
    fixed = row(sde, data, "fixed-path", norm="linf", eps=0.03, steps=8)
    assert fixed["score_draws"] == 1
    assert fixed["undecided"] == 0
    assert fixed["noise"] == "multiplicative"
    assert fixed["backward_passes"] == 8


def test_transfer_takes_another_checkpoint_and_says_what_does_not_fit(tmp_path):
    """`source` is loaded and hashed; one of other shape is refused."""
    source = CHECKPOINTS / "digits-ode.safetensors"
    attack = make_attack("transfer", eps=0.1, steps=2, source=str(source))
    assert attack.source_sha256.startswith("sha256:")
    assert attack.source_sha256 in repr(attack)
    with pytest.raises(BenchError, match="the attack cannot transfer"):
        run(attack, make_model(), make_data(2))
    with pytest.raises(BenchError):
        make_attack("transfer", eps=0.1, source=str(tmp_path / "none.safetensors"))


def test_steps_that_no_attack_takes_are_told(recwarn):
    """Attacks that look for the smallest change keep their own number; beside others nothing is said."""
    for names in (["fmn", "pgd"], ["pgd"]):
        plan_attacks(names, "linf", [0.1], {"steps": 5}, {})
    assert not recwarn.list
    plan_attacks(["fmn"], "linf", [0.1], {"steps": 5}, {})
    (told,) = recwarn.list
    assert str(told.message) == "fmn keeps its own number of steps, whatever `steps` is: set fmn.steps"


def test_transfer_takes_a_checkpoint_by_its_name(tmp_path, monkeypatch):
    """A shipped name works in any folder, also where work is sent elsewhere; a misspelt one is told."""
    monkeypatch.chdir(tmp_path)
    named = make_attack("transfer", eps=0.1, steps=2, source="digits-ode")
    (file,) = named.files()
    by_path = make_attack("transfer", eps=0.1, steps=2, source=str(file))
    assert named.source_sha256 == by_path.source_sha256
    elsewhere = tmp_path / "sent.safetensors"
    elsewhere.write_bytes(file.read_bytes())
    assert named.moved({file: elsewhere}).source == str(elsewhere)
    model = load_checkpoint(CHECKPOINTS / "digits-additive.safetensors")
    digits = load_dataset("digits", images=3)
    assert torch.equal(run(named, model, digits).images, run(by_path, model, digits).images)
    with pytest.raises(BenchError, match="did you mean 'digits-ode'"):
        make_attack("transfer", eps=0.1, source="digits-od")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("foolbox:LinfPDG", "did you mean"),
        ("foolbox:L1PGD", "norm"),
        ("foolbox:SpatialAttack", "norm"),
        ("foolbox:GenAttack", "target"),
        ("foolbox:DatasetAttack", "data set"),
        ("foolbox:InversionAttack", "norm"),
        ("foolbox:Attack", "did you mean"),
    ],
)
def test_foolbox_attacks_that_cannot_be_run_say_why(name, message):
    """One line with the reason, before anything is run."""
    with pytest.raises(BenchError, match=message):
        make_attack(name, eps=0.1)


def test_minimal_norm_foolbox_attacks_run_on_an_ode_and_are_refused_on_an_sde():
    """The closest point ever misclassified is one lucky draw of a random model."""
    attack = make_attack("foolbox:DDNAttack", steps=5)
    data = make_data(2)
    assert run(attack, make_model("none"), data).images.shape == data.images.shape
    with pytest.raises(BenchError, match="lucky draw"):
        run(attack, make_model(), data)


def test_foolbox_attacks_name_themselves_and_travel_between_processes():
    """The repr, which keys stored cells, has the class name; pickling keeps it."""
    attack = make_attack("foolbox:LinfPGD", eps=0.1, steps=7)
    assert repr(attack).startswith("foolbox:LinfPGD(")
    assert repr(pickle.loads(pickle.dumps(attack))) == repr(attack)
    assert attack_kind("foolbox:LinfPGD") is type(attack)


def test_foolbox_passes_are_counted_both_ways():
    """PGD of 5 steps over 3 draws: 15 gradients."""
    perturbed = run(make_attack("foolbox:LinfPGD", eps=0.1, steps=5, eot_draws=3), make_model(), make_data(2))
    assert perturbed.backward_passes.tolist() == [15, 15]
    assert perturbed.forward_passes.tolist() == [15, 15]


@pytest.mark.parametrize("name", ["apgd-dlr", "apgd-targeted"])
def test_dlr_with_two_classes_is_refused_and_auto_does_without_it(name):
    """The ratio needs a third class."""
    model, data = make_model("none", classes=2), make_data(2, classes=2)
    with pytest.raises(BenchError, match="at least 3 classes"):
        run(make_attack(name, eps=0.1, steps=2), model, data)
    auto = make_attack("auto", eps=0.1, steps=2, queries_per_step=1)
    assert "apgd-targeted" not in {member.name for member in auto.members(model)}
    run(auto, model, data)


def test_dlr_by_hand():
    """Logits 3, 1, 0, -1: label ahead by 2 in a spread of 3; the same whatever is added or multiplied."""
    z = torch.tensor([[3.0, 1.0, 0.0, -1.0]])
    label, target = torch.tensor([0]), torch.tensor([2])
    for logits in (z, z.log_softmax(-1), 5 * z + 2):
        assert dlr(logits, label).item() == pytest.approx(-2 / 3)
        assert targeted_dlr(logits, label, target).item() == pytest.approx(-3 / 3.5)


@pytest.mark.parametrize("target", [2, "random", "least-likely"])
@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "apgd-dlr"])
def test_targeted_attacks_raise_the_probability_of_their_target(name, target):
    """Over fresh draws the target's share rises; images already of that class are attacked untargeted."""
    model, data = make_model(), make_data()
    attack = make_attack(name, norm="linf", eps=0.2, steps=8, eot_draws=4, target=target)
    batch = Batch(to_float(data.images), data.labels, data.ids)
    aim, _ = attack.aim(model, batch, seed=0)
    draws = Draws(9, Stream.AUDIT, range(64))

    def probability(images):
        probs = model.logits(images, data.ids, draws).softmax(-1).mean(0)
        return probs.gather(1, aim.classes[:, None])[:, 0]

    change = probability(run(attack, model, data).images) - probability(batch.images)
    assert ((aim.sign == 1) == (aim.classes == data.labels)).all()
    assert (aim.sign * change).mean() < -0.01
    assert str(target) in attack.describe()["perturbation"]


def test_a_random_target_is_every_class_but_the_true_one():
    """Over many images and seeds each wrong class is drawn, the true one never."""
    model = make_model("none")
    count = 400
    labels = torch.arange(count) % model.classes
    batch = Batch(torch.zeros(count, *model.image_shape), labels, torch.arange(count))
    for seed in range(3):
        aim, _ = make_attack("pgd", eps=0.1, target="random").aim(model, batch, seed=seed)
        assert (aim.classes != labels).all()
        assert (aim.sign == -1).all()
        assert set(((aim.classes - labels) % model.classes).tolist()) == set(range(1, model.classes))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("pgd", {"eps": 0.1}),
        ("pgd", {"eps": 0.1, "restarts": 2}),
        ("apgd-targeted", {"eps": 0.1}),
        ("cw", {"binary_search_steps": 2}),
        ("fmn", {}),
        ("auto", {"eps": 0.1, "queries_per_step": 1}),
    ],
)
@pytest.mark.parametrize("kind", ["none", "multiplicative"])
def test_a_budget_of_passes_is_never_exceeded(name, parameters, kind):
    """Equal cost: all draws, rounds and restarts count."""
    attack = make_attack(name, **parameters, eot_draws=3, passes=40)
    perturbed = run(attack, make_model(kind), make_data(2))
    assert 0 < int(perturbed.backward_passes.max()) <= 40
    with pytest.raises(BenchError, match="below one step"):
        run(make_attack("pgd", eps=0.1, eot_draws=8, passes=7), make_model(), make_data(2))


def test_plans_give_each_attack_what_it_takes():
    """Minimal-norm attacks of another norm run once; None leaves a default; odd options are refused."""
    shared = {"eot_draws": 4, "restarts": None, "steps": 7, "target": None}
    plan = plan_attacks(["pgd", "cw", "noise", "square"], "linf", [0.1, 0.2], shared, {"cw": {"steps": 9}})
    assert [str(attack) for attack in plan] == [
        "pgd linf 0.1", "pgd linf 0.2", "cw l2",
        "noise linf 0.1", "noise linf 0.2", "square linf 0.1", "square linf 0.2",
    ]  # fmt: skip
    assert [attack.steps for attack in plan[:3]] == [7, 7, 9]
    assert plan[3].restarts == 10
    with pytest.raises(BenchError, match="cw takes no `target`"):
        plan_attacks(["pgd", "cw"], "l2", [0.1], shared | {"target": "random"}, {})
    with pytest.raises(BenchError, match="pgd takes no `source`"):
        plan_attacks(["pgd"], "l2", [0.1], shared | {"source": "x"}, {})
    for option, value in (("source", "x.safetensors"), ("samples", 3)):
        with pytest.raises(BenchError, match=f"pgd takes no `{option}`"):
            plan_attacks(["pgd", "cw"], "l2", [0.1], shared | {option: value}, {})
    assert len(plan_attacks(["pgd", "noise"], "l2", [0.1], shared | {"samples": 3}, {})) == 2
    assert math.isnan(plan_attacks(["fmn"], "linf", [None], {}, {})[0].describe()["eps"])


def test_random_points_find_no_more_than_chance(sde, digits):
    """Ten tries at the smallest budget: lucky draws do not lower the accuracy."""
    data = first(digits, 24)
    noise = row(sde, data, "noise", norm="linf", eps=1e-6, eot_draws=2)
    clean = evaluate(sde, data, Clean(), SETTINGS).row
    low = wilson(clean["accuracy"], len(data)).low
    assert noise["accuracy"] >= low
