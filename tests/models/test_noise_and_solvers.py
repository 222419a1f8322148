"""What a model does with its noise terms and solvers: combined, shared, learned, replaced, refined."""

from pathlib import Path

import pytest
import torch
from builders import make_model

from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint, save_checkpoint
from robustbench_sde.models.classifier import Classifier
from robustbench_sde.models.header import CheckpointHeader, DatasetRef
from robustbench_sde.models.noise import NoiseSpec, parse_noise
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.sde.diffusion import Multiplicative
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream
from robustbench_sde.sde.integrate import solve
from robustbench_sde.sde.solvers import SOLVERS

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
IMAGES = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(0))
DRAWS = Draws(0, Stream.SCORE, range(4))
COMBINED = parse_noise("additive:0.3+multiplicative", sigma=0.5)


def logits(model, images=IMAGES, draws=DRAWS):
    return model.logits(images, range(len(images)), draws)


def digit():
    """One image of a size and content that no data set decides."""
    return torch.linspace(0, 1, 1024).view(1, 1, 32, 32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ode", [-0.6026, 1.1803, 2.6755]),
        ("additive", [-2.8196, 1.1942, 3.7906]),
        ("multiplicative", [1.8653, 1.6045, 7.3177]),
        ("dropout", [1.2458, -1.1035, 2.6196]),
    ],
)
def test_shipped_checkpoints_keep_their_numbers(name, expected):
    """Logits of the first version, to its four digits, at an even draw, which pairs have left as it was."""
    model = load_checkpoint(CHECKPOINTS / f"digits-{name}.safetensors")
    found = model.logits(digit(), [7], Draws(3, Stream.SCORE, range(4, 5)))[0, 0, :3]
    assert found.tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("shape", ["independent", "channel", "scalar"])
@pytest.mark.parametrize("text", ["additive+multiplicative", "dropout+jump", "additive+jump+multiplicative"])
def test_a_row_depends_on_its_image_id_and_draw_only(text, shape):
    """Also combined and shared noise is keyed: batch, order and chunks change logits by less than 1e-5."""
    model = make_model(noise=parse_noise(text, sigma=0.5, shape=shape, rate=1.0), blocks=2)
    whole = logits(model)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(model.logits(IMAGES[order], order, DRAWS), whole[:, order], atol=1e-5)
    alone = model.logits(IMAGES[2:3], [2], Draws(0, Stream.SCORE, range(3, 4)))
    assert torch.allclose(alone[0, 0], whole[3, 2], atol=1e-5)
    assert not torch.equal(whole[0], whole[1])
    assert model.noise == text


def test_terms_of_a_combination_have_their_own_noise():
    """A term keeps its numbers whatever its neighbour, and two terms do not share theirs."""
    combined = make_model(noise=COMBINED)
    silent = combined.spec.noise[0].model_copy(update={"sigma": 0.0})
    second = make_model(noise=(silent, COMBINED[1]))
    alone = make_model(noise=COMBINED[1:])
    assert not torch.equal(logits(combined), logits(second))
    assert not torch.equal(logits(second), logits(alone))  # the second term draws at a site of its own
    first = make_model(noise=(COMBINED[0], COMBINED[1].model_copy(update={"sigma": 0.0})))
    assert torch.equal(logits(first), logits(make_model(noise=COMBINED[:1])))


@pytest.mark.parametrize(("shape", "count"), [("independent", 8 * 6 * 6), ("channel", 8), ("scalar", 1)])
def test_noise_is_shared_as_its_shape_says(shape, count, monkeypatch):
    """A step of an image draws one number per entry, per channel, or one alone."""
    sizes = []
    original = BrownianPaths._generate

    def recording(self, steps):
        for z in original(self, steps):
            sizes.append(z[0, 0].numel())
            yield z

    monkeypatch.setattr(BrownianPaths, "_generate", recording)
    logits(make_model(noise=NoiseSpec(kind="multiplicative", sigma=0.5, shape=shape)))
    assert set(sizes) == {count}


def test_sigma_can_be_learned_and_replaced(tmp_path):
    """A learned sigma starts from the specification, has a gradient, is stored, and gives way to another."""
    noise = NoiseSpec(kind="multiplicative", sigma=0.5, learned=True)
    model = make_model(noise=noise, blocks=2)
    fixed = make_model(noise=noise.model_copy(update={"learned": False}), blocks=2)
    assert torch.allclose(logits(model), logits(fixed), atol=1e-6)
    model.requires_grad_(True)
    logits(model).square().sum().backward()
    gradient = model.learned["multiplicative"].grad
    assert gradient is not None
    assert bool((gradient != 0).all())
    with torch.no_grad():
        model.learned["multiplicative"].copy_(torch.tensor([0.2, 0.6]))
    assert model.sigma == pytest.approx(0.4)
    header = CheckpointHeader(
        model=model.spec, dataset=DatasetRef(name="r", fingerprint="", class_names=tuple("abcd"))
    )
    save_checkpoint(tmp_path / "m.safetensors", model, header)
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert torch.equal(logits(loaded), logits(model))
    other = loaded.with_noise(sigma=0.5)
    assert other.sigma == 0.5
    assert torch.equal(logits(other), logits(fixed))
    assert other.state_dict().keys() == Classifier.weight_shapes(other.spec).keys()
    assert loaded.state_dict().keys() == Classifier.weight_shapes(loaded.spec).keys()


def test_another_sigma_replaces_that_of_every_term():
    """sigma is NaN where terms differ; at test time all get the same, or none."""
    model = make_model(noise=COMBINED)
    assert model.sigma != model.sigma
    assert model.with_noise(sigma=0.5).sigma == 0.5
    assert model.with_noise(enabled=False).noise == "none"
    assert not torch.equal(logits(model), logits(model.with_noise(sigma=0.5)))


def test_another_solver_or_number_of_steps_keeps_the_weights():
    """`with_solver` leaves the model as it was and says what it solves with."""
    model = make_model()
    before = logits(model)
    milstein = model.with_solver(solver="milstein", steps=6)
    assert (milstein.solver, milstein.spec.steps) == ("milstein", 6)
    assert (model.solver, model.spec.steps) == ("euler", 3)
    assert not torch.equal(logits(milstein), before)
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(model.with_solver()), before)
    assert milstein.head is model.head


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("multiplicative", {"solver": "rk4"}, "ODEs only .* choose euler or milstein or heun"),
        ("dropout", {"solver": "heun"}, "does not take dropout noise; choose euler"),
        ("none", {"solver": "rk5"}, "did you mean 'rk4'"),
        ("none", {"steps": 0}, "steps"),
        ("jump", {"steps": 1}, "need at least 2 steps"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(kind, change, message):
    """A solver that does not take the noise names those that do."""
    model = make_model(noise=NoiseSpec(kind=kind, sigma=0.5, rate=2.0))
    with pytest.raises(BenchError, match=message) as caught:
        model.with_solver(**change)
    assert "\n" not in str(caught.value)


def test_a_solver_of_odes_takes_a_model_whose_noise_is_off():
    """rk4 is refused with noise, fine without, and refuses that the noise comes back."""
    silent = make_model().with_noise(enabled=False).with_solver(solver="rk4")
    assert silent.solver == "rk4"
    with pytest.raises(BenchError, match="ODEs only"):
        silent.with_noise(sigma=0.5)


def test_all_solvers_agree_on_a_trained_ode_in_small_steps():
    """On a shipped ODE the schemes approach one limit, each with its order."""
    model = load_checkpoint(CHECKPOINTS / "digits-ode.safetensors")
    limit = logits(model.with_solver(solver="rk4", steps=64), digit())
    bounds = {("euler", 256): 0.05, ("heun", 64): 0.01, ("midpoint", 64): 0.01, ("dopri5", 1): 0.01}
    for (name, steps), bound in bounds.items():
        assert torch.allclose(logits(model.with_solver(solver=name, steps=steps), digit()), limit, atol=bound)
    coarse, fine = (
        (logits(model.with_solver(steps=steps), digit()) - limit).abs().max() for steps in (64, 256)
    )
    assert float(coarse / fine) == pytest.approx(4, rel=0.2)


def test_solvers_agree_on_a_trained_sde_in_small_steps():
    """On one Brownian path of a trained drift, Milstein and Heun meet faster than Euler-Maruyama follows."""
    model = load_checkpoint(CHECKPOINTS / "digits-multiplicative.safetensors")
    h0 = model.stem((digit() - model.mean) / model.std).unsqueeze(0)
    fine = torch.stack(list(BrownianPaths(DRAWS, [0], h0.shape[2:], steps=128)))
    ends = {}
    for steps in (32, 128):
        normals = list(fine.unflatten(0, (steps, -1)).sum(1) / (128 / steps) ** 0.5)
        for name in ("euler", "milstein", "heun"):
            noise = [(Multiplicative(model.sigma), normals)]
            options = {"horizon": 1.0, "steps": steps, "solver": SOLVERS[name]}
            ends[name, steps] = solve(model.flows[0], h0, noise, **options)

    def apart(name, other, steps):
        return float((ends[name, steps] - ends[other, steps]).square().mean().sqrt())

    assert apart("euler", "milstein", 32) / apart("euler", "milstein", 128) == pytest.approx(2, rel=0.2)
    assert apart("heun", "milstein", 32) / apart("heun", "milstein", 128) == pytest.approx(4, rel=0.25)
    assert apart("euler", "milstein", 128) < 0.05 * float(ends["milstein", 128].std())


@pytest.mark.parametrize("noise", ["none", "additive:0.3+multiplicative"])
def test_recomputed_gradients_of_images_and_weights_are_the_same(noise):
    """`with_recomputation` changes no bit of logits or gradients."""
    found = []
    for enabled in (False, True):
        model = make_model(noise=parse_noise(noise, sigma=0.5), steps=7).requires_grad_(True)
        x = IMAGES.clone().requires_grad_()
        result = logits(model.with_recomputation(enabled), x)
        weights = [parameter for parameter in model.flows.parameters() if parameter.requires_grad]
        found.append([result, *torch.autograd.grad(result.square().sum(), [x, *weights])])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_resnet_is_its_residual_blocks():
    """The preset has one block per step of its twin, each with weights of its own: h + f_i(h)."""
    assert PRESETS["resnet"]["blocks"] == PRESETS["digits"]["steps"]
    assert PRESETS["cifar-resnet"]["blocks"] == PRESETS["cifar"]["steps"]
    model = make_model("none", blocks=3, steps=1)
    h = model.stem((IMAGES - model.mean) / model.std)
    for block in model.flows:
        h = h + block(0.0, h)
    assert torch.allclose(logits(model)[0], model.head(h), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "options", "terms"),
    [
        ("none", {}, []),
        ("multiplicative", {}, [("multiplicative", 0.5)]),
        ("additive:0.3+multiplicative", {}, [("additive", 0.3), ("multiplicative", 0.5)]),
        ("dropout", {"keep": 0.8}, [("dropout", 0.5)]),
        ("dropout:0.7+additive", {"keep": 0.8}, [("dropout", 0.7), ("additive", 0.5)]),
    ],
)
def test_noise_as_text(text, options, terms):
    """Kinds joined by +, own scales behind colons; p of dropout becomes sqrt((1-p)/p)."""
    parsed = parse_noise(text, sigma=0.5, **options)
    assert [(term.kind, pytest.approx(term.sigma)) for term in parsed if term.kind != "none"] == terms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("additve", "did you mean 'additive'"),
        ("additive+", "unknown noise ''"),
        ("additive:loud", "sigma"),
        ("additive:-1", "sigma"),
        ("additive:nan", "sigma"),
    ],
)
def test_wrong_noise_text_is_one_sentence(text, message):
    """The kind is suggested, the value named."""
    with pytest.raises(BenchError, match=message) as caught:
        parse_noise(text, sigma=0.5)
    assert "\n" not in str(caught.value)


def test_a_kind_of_noise_is_there_once():
    """Twice the same kind is one with another sigma."""
    with pytest.raises(ValueError, match="once"):
        make_model(noise=parse_noise("additive+additive", sigma=0.5))


def test_an_adaptive_solver_gives_each_image_a_pass_of_its_own():
    """Logits under dopri5 are those of the image alone, to the bit; no gradient reaches another image."""
    model = load_checkpoint(CHECKPOINTS / "digits-ode.safetensors", solver="dopri5", steps=1)
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    draws = Draws(0, Stream.SCORE)
    batch = model.logits(images, [4, 5, 6], draws)
    alone = [model.logits(image[None], [id_], draws) for image, id_ in zip(images, [4, 5, 6], strict=True)]
    assert torch.equal(batch, torch.cat(alone, 1))
    (gradient,) = torch.autograd.grad(batch[0, 0].max(), images)
    assert gradient[0].any()
    assert not gradient[1:].any()


def test_a_parameter_of_one_kind_stands_beside_it():
    """``levy:0.3,alpha=1.7`` is one term; unknown parameters, and values out of range, are one sentence."""
    (term,) = parse_noise("levy:0.3,alpha=1.7", sigma=0.5, rate=2.0)
    assert (term.sigma, term.own) == (0.3, {"alpha": 1.7, "rate": 2.0})
    assert term.label == "levy-0.3-alpha1.7"
    assert NoiseSpec.model_validate_json(term.model_dump_json()) == term
    model = make_model(noise=(term,))
    one, other = (logits(model.with_noise(sigma=sigma)) for sigma in (0.3, 0.31))
    assert not torch.equal(one, other)
    for text, message in {
        "levy,rate=2": "unknown parameter of levy noise 'rate'; known: alpha",
        "levy,alpha=2.5": "alpha of levy noise must be above 1 and at most 2, not 2.5",
        "additive,alpha=1.5": "unknown parameter of additive noise 'alpha'",
    }.items():
        with pytest.raises(BenchError, match=message):
            parse_noise(text, sigma=0.5)
