"""Configurations in files and by name."""

from pathlib import Path

import pytest
from builders import make_data

import robustbench_sde as rb
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.shipped import CONFIGS, shipped_files
from robustbench_sde.training.config import learning_rate, parse_config
from robustbench_sde.training.named import read_config


def parsed(name):
    options = read_config(name)
    return parse_config({key: options[key] for key in options.keys() - {"dataset", "description"}})


@pytest.mark.parametrize("name", shipped_files(CONFIGS))
def test_shipped_configurations_are_sound(name):
    """Each says what it is and trains a model that its images fit."""
    options = read_config(name)
    assert options["description"]
    assert options["dataset"]
    config = parsed(name)
    assert config.model_spec(make_data(4, (3, 32, 32))).image_shape == (3, 32, 32)
    assert config.default_name(make_data(4)).count("/") == 0


def test_the_paper_has_its_augmentation_and_schedule():
    """Crops of 32 with padding 4, no flip; SGD 0.9, lr 0.1 / 10 after 60 and 90 of 110 epochs, batch 128."""
    config = parsed("paper/multiplicative")
    assert config.augmentation(make_data(4, (3, 32, 32))) == (4, False)
    assert (config.preset, config.batch_size, config.momentum, config.weight_decay) == (
        "liu2020",
        128,
        0.9,
        0,
    )
    rates = [learning_rate(config, epoch / config.epochs) for epoch in (0, 59, 60, 89, 90)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert [term.kind for term in config.noise_terms()] == ["multiplicative"]
    small = parsed("small/multiplicative-scalar.yaml")
    assert (small.preset, small.epochs, small.batch_size, small.lr) == ("cifar", 10, 128, 0.1)
    assert {(term.sigma, term.shape) for term in small.noise_terms()} == {(0.5, "scalar")}


def test_a_file_may_build_on_another(tmp_path):
    """The keys of a file win over those of its base."""
    (tmp_path / "mine.yaml").write_text("base: small/additive\nsigma: 0.2\n")
    config = parsed(str(tmp_path / "mine.yaml"))
    assert (config.preset, config.noise, config.sigma) == ("cifar", "additive", 0.2)


def test_what_is_not_there_is_one_sentence(tmp_path):
    """The nearest name, or the circle."""
    with pytest.raises(BenchError, match="unknown configuration 'paper/odee'; did you mean 'paper/ode'"):
        read_config("paper/odee")
    (tmp_path / "a.yaml").write_text(f"base: {tmp_path / 'a.yaml'}\n")
    with pytest.raises(BenchError, match="build on each other"):
        read_config(str(tmp_path / "a.yaml"))


def test_a_scale_that_is_given_stands_above_the_share_of_a_file(tmp_path, monkeypatch):
    """A file says what dropout keeps; sigma says the same in another way, and is not passed over."""
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("noise: dropout\nkeep: 0.9\nepochs: 1\nsteps: 1\nbatch_size: 64\n")
    data = make_data(64)
    scales = [
        rb.train(data, f"{name}.safetensors", config="own.yaml", progress=False, **given)
        .header.model.noise[0]
        .sigma
        for name, given in (("file", {}), ("given", {"sigma": 0.7}))
    ]
    assert scales == pytest.approx([(0.1 / 0.9) ** 0.5, 0.7])


def test_a_scale_without_noise_is_told(tmp_path):
    """A loop over kinds of noise may give every one a scale; of an ODE it changes nothing."""
    with pytest.warns(BenchWarning, match="`sigma` 0.7 changes nothing"):
        rb.train(
            make_data(64),
            tmp_path / "a.safetensors",
            noise="none",
            sigma=0.7,
            epochs=1,
            steps=1,
            progress=False,
        )


@pytest.mark.parametrize(
    ("options", "matters"),
    [
        ({"noise": "additive", "sigma": 1000}, True),
        ({"noise": "additive", "sigma": 1}, True),
        ({"noise": "dropout", "keep": 0.8, "sigma": 0.5}, False),
        ({"noise": "dropout+additive", "keep": 0.8, "sigma": 0.5}, True),
        ({"noise": "additive:0.3", "sigma": 0.5}, False),
        ({"noise": "none", "sigma": 1000}, False),
    ],
)
def test_a_scale_matters_if_a_term_takes_it(options, matters):
    """Whatever the scale is, the largest one included."""
    assert parse_config(options).sigma_matters == matters
