"""Texts of options that become other texts."""

import pytest

from robustbench_sde.cli.texts import with_levy_alpha
from robustbench_sde.errors import BenchError
from robustbench_sde.models.noise import parse_noise


@pytest.mark.parametrize("noise", ["levy", "levy:0.3", "additive:0.3+levy", " levy:0.3 + dropout"])
def test_the_option_gives_levy_noise_its_alpha(noise):
    """The Levy term has the alpha, and all terms keep their kind and sigma."""
    before = parse_noise(noise, sigma=0.5)
    after = parse_noise(with_levy_alpha(noise, 1.8), sigma=0.5)
    assert [(term.kind, term.sigma) for term in after] == [(term.kind, term.sigma) for term in before]
    assert [term.own.get("alpha") for term in after if term.kind == "levy"] == [1.8]


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ("multiplicative", "--levy-alpha needs Levy noise, like --noise levy:0.5; --noise is multiplicative"),
        ("levy:0.3,alpha=1.5", "both give alpha"),
        ("levy,alpha=1.5", "both give alpha"),
    ],
)
def test_an_alpha_without_its_noise_or_given_twice_is_refused(noise, message):
    """One sentence says which option to change."""
    with pytest.raises(BenchError, match=message):
        with_levy_alpha(noise, 1.8)
