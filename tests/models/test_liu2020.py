"""The released networks of Liu et al. (CVPR 2020): imported weights compute what their formulas say."""

import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from builders import make_data

from robustbench_sde.errors import BenchError
from robustbench_sde.models.checkpoint import load_checkpoint
from robustbench_sde.models.header import read_header
from robustbench_sde.models.importing import import_checkpoint
from robustbench_sde.models.presets import PRESETS
from robustbench_sde.sde.draws import BrownianPaths, Draws, Stream
from robustbench_sde.training.config import TrainConfig

WIDTH, CLASSES, STEPS = 16, 4, 11  # 16 channels in the place of 256
DATA = make_data(2, (3, 32, 32), CLASSES)
IMAGES = DATA.images.float() / 255
DRAWS = Draws(0, Stream.SCORE, range(3))


def released_names(noise="multiplicative", channels=3, scales=3):
    """Shapes by name, as the released code saves them (its dimensions, with `WIDTH` channels)."""
    quarter, half = WIDTH // 4, WIDTH // 2
    convolutions = {
        "downsampling_layers.0": (quarter, channels, 3, 3),
        "downsampling_layers.3": (half, quarter, 3, 3),
        "downsampling_layers.6": (WIDTH, half, 4, 4),
        "fc_layers.4": (CLASSES, WIDTH),
    }
    norms = {"downsampling_layers.1": quarter, "downsampling_layers.4": half, "fc_layers.0": WIDTH}
    noises = {}
    for scale in range(scales):
        flow = f"multiscale_flows.flows.{scale}"
        convolutions[f"{flow}.flow_fn.conv1._layer"] = (WIDTH, 64 + WIDTH, 3, 3)
        convolutions |= {f"{flow}.flow_fn.conv{index}": (WIDTH, WIDTH, 3, 3) for index in (2, 3)}
        norms |= {f"{flow}.flow_fn.norm{index}": WIDTH for index in (1, 2, 3, 4)}
        if noise == "jump":
            noises |= {f"{flow}.jump.rate": 2.0, f"{flow}.jump.scale": 0.9}
        else:
            noises[f"{flow}.diffusion.sigma"] = 0.0 if noise == "none" else 0.7
    return convolutions, norms, noises


def released_state(noise="multiplicative", **options):
    """Random weights under the released names."""
    convolutions, norms, noises = released_names(noise, **options)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in convolutions.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) / 10
    for name, size in norms.items():
        state[f"{name}.weight"] = 1 + torch.randn(size, generator=generator) / 10
        state[f"{name}.bias"] = torch.randn(size, generator=generator) / 10
    return state | {name: torch.tensor(value) for name, value in noises.items()}


def plain_forward(state, images, noise, draw):
    """Logits of one draw, written from the description of the networks, with the time as real channels."""

    def conv(name, x, stride=1):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding=1)

    def norm(name, x):
        width = x.shape[1]
        return F.group_norm(x, min(32, width), state[f"{name}.weight"], state[f"{name}.bias"])

    def drift(flow, t, x):
        w = torch.exp(-torch.arange(32) * math.log(100) / 31)
        encoding = torch.cat([torch.sin(t * w), torch.cos(t * w)])[None, :, None, None]
        out = F.relu(norm(f"{flow}.norm1", x))
        out = torch.cat([encoding.expand(len(x), -1, *x.shape[2:]), out], 1)
        out = F.relu(norm(f"{flow}.norm2", conv(f"{flow}.conv1._layer", out)))
        out = F.relu(norm(f"{flow}.norm3", conv(f"{flow}.conv2", out)))
        return norm(f"{flow}.norm4", conv(f"{flow}.conv3", out))

    x = conv("downsampling_layers.0", images)
    x = conv("downsampling_layers.3", F.relu(norm("downsampling_layers.1", x)))
    h0 = conv("downsampling_layers.6", F.relu(norm("downsampling_layers.4", x)), stride=2)
    total = 0
    for scale in range(3):
        h = F.avg_pool2d(h0, 2**scale)
        paths = BrownianPaths(draw, range(len(images)), h.shape[1:], steps=STEPS, site=scale)
        for step, z in enumerate(paths):
            f = drift(f"multiscale_flows.flows.{scale}.flow_fn", step / STEPS, h)
            g = {"none": 0, "additive": 0.7, "multiplicative": 0.7 * h}[noise]
            h = h + f / STEPS + g * z[0] * math.sqrt(1 / STEPS)
        total = total + h.repeat_interleave(2**scale, 2).repeat_interleave(2**scale, 3)
    h = F.relu(norm("fc_layers.0", total)).mean((2, 3))
    return h @ state["fc_layers.4.weight"].T + state["fc_layers.4.bias"]


def imported(tmp_path, state, **options):
    source = tmp_path / "released.pth"
    torch.save(state, source)
    arguments = {"preset": "liu2020", "noise": "multiplicative"} | options
    import_checkpoint(source, tmp_path / "ours.safetensors", DATA, **arguments)
    return load_checkpoint(tmp_path / "ours.safetensors")


@pytest.mark.parametrize("noise", ["none", "additive", "multiplicative"])
def test_an_imported_network_has_the_logits_of_the_released_one(tmp_path, noise):
    """Equal to a forward pass written from the description, to 1e-5, with the same noise."""
    state = released_state(noise)
    model = imported(tmp_path, state, noise=noise)
    logits = model.logits(IMAGES, range(2), DRAWS)
    for index, draw in enumerate(DRAWS.chunks(1)):
        plain = plain_forward(state, IMAGES, noise, draw)
        assert torch.allclose(logits[index], plain, atol=1e-5)
    assert bool((logits[0] == logits[1]).all()) == (noise == "none")


def test_their_dropout_is_a_jump_process(tmp_path):
    """Rate and scale come from the file, and the noise is on."""
    model = imported(tmp_path, released_state("jump"), noise="jump")
    (term,) = model.spec.noise
    assert (term.kind, term.rate, term.sigma) == ("jump", 2.0, 0.9)
    logits = model.logits(IMAGES, range(2), DRAWS)
    assert not torch.equal(logits[0], logits[1])


def test_a_checkpoint_says_where_it_came_from(tmp_path):
    """Preset, scales, noise, steps, pixels as they are, classes, and the file it was."""
    model = imported(tmp_path, released_state(scales=2), sigma=0.7)
    header = read_header(tmp_path / "ours.safetensors")
    assert (model.spec.architecture, model.spec.blocks, model.spec.steps) == ("liu2020", 2, 11)
    assert (model.noise, model.sigma, model.spec.mean) == ("multiplicative", 0.7, (0.0, 0.0, 0.0))
    assert header.training["imported"] == "released.pth"
    assert header.dataset.class_names == DATA.class_names


def without(name):
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (without("fc_layers.4.bias"), {}, r"missing: fc_layers\.4\.bias$"),
        (
            lambda state: state.update({"a": torch.ones(1), "b": state.pop("fc_layers.0.bias")}),
            {},
            r"missing: fc_layers\.0\.bias; unexpected: a, b$",
        ),
        (lambda state: None, {"noise": "jump"}, r"missing: .*jump\.rate.* unexpected: .*diffusion\.sigma"),
        (lambda state: None, {"noise": "dropout"}, "choose jump"),
        (lambda state: None, {"noise": "none"}, r"sigma 0\.7: say which"),
        (lambda state: None, {"sigma": 0.5}, r"sigma 0\.7, not 0\.5"),
        (lambda state: None, {"preset": "liu2019"}, "did you mean 'liu2020'"),
        (
            lambda state: state.update({"multiscale_flows.flows.1.diffusion.sigma": torch.tensor(0.2)}),
            {},
            "the same in all flows",
        ),
        (lambda state: state["fc_layers.4.bias"].fill_(torch.nan), {}, "NaN"),
        (lambda state: state.update({"fc_layers.4.weight": torch.ones(3)}), {}, "1 dimensions, not 2"),
        (
            lambda state: state.update({"multiscale_flows.flows.0.flow_fn.norm2.bias": torch.ones(3)}),
            {},
            "shape",
        ),
        (
            lambda state: state.update({"fc_layers.4.weight": torch.ones(7, WIDTH)}),
            {},
            "7 classes, but random has 3 and 4",
        ),
        (lambda state: state.update({"epoch": 3}), {}, "not a state dict"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(tmp_path, change, options, message):
    """Every name that is missing or too many is listed; nothing is written."""
    state = released_state()
    change(state)
    with pytest.raises(BenchError, match=message) as caught:
        imported(tmp_path, state, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.safetensors").exists()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.parametrize("content", ["missing", "bomb", "torch bomb", "garbage", "empty"])
def test_a_hostile_file_is_one_sentence(tmp_path, content):
    """Nothing is executed on the way."""
    source, target = tmp_path / "released.pth", tmp_path / "exploded"
    if content == "bomb":
        source.write_bytes(pickle.dumps(Bomb(target)))
    elif content == "torch bomb":
        torch.save({"a": Bomb(target)}, source)
    elif content != "missing":
        source.write_bytes(b"" if content == "empty" else b"\xff" * 1000)
    with pytest.raises(BenchError) as caught:
        import_checkpoint(source, tmp_path / "o.safetensors", DATA, preset="liu2020", noise="none")
    assert "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 36)])
def test_the_preset_takes_any_size_and_channels(shape):
    """Sizes that no power of two divides run, too; pixels are not normalised; the preset has 256 channels."""
    from robustbench_sde.models.classifier import Classifier

    data = make_data(2, shape, 5)
    spec = TrainConfig(preset="liu2020", noise="multiplicative").model_spec(data)
    assert (spec.features, spec.steps, spec.blocks, spec.mean) == (256, 11, 3, (0.0,) * shape[0])
    model = Classifier.initialised(spec.model_copy(update={"features": 16, "norm_groups": 16, "steps": 2}), 0)
    logits = model.logits(data.images.float() / 255, range(2), DRAWS)
    assert logits.shape == (3, 2, 5)
    assert bool(logits.isfinite().all())


def test_the_full_preset_has_the_released_weights():
    """The shapes at 256 channels are those of the released file."""
    from robustbench_sde.models.classifier import Classifier

    spec = TrainConfig(preset="liu2020").model_spec(DATA)
    shapes = Classifier.weight_shapes(spec)
    assert shapes["stem.conv3.weight"] == (256, 128, 4, 4)
    assert shapes["flows.2.conv1.weight"] == (256, 256, 3, 3)
    assert shapes["flows.2.time.weight"] == (256, 64, 3, 3)
    assert PRESETS["liu2020"]["norm_groups"] == 32
