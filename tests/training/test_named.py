"""Configurations in files and by name."""

import pytest
from builders import make_data

from robustbench_sde.errors import BenchError
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
