"""Policies: what they say of a cell, and what is refused."""

import pytest

from robustbench_sde.errors import BenchError
from robustbench_sde.regression.policy import Limits, load_policy

POLICY = """
max_drop: 0.03
alpha: 0.01
cells:
  - match: "* clean"
    max_drop: 0.01
  - match: "digits-ode *"
    min_images: 300
  - match: "* fog *"
    required: false
  - match: "digits-ode fog 5"
    required: true
    max_drop: 0.1
"""


def test_the_later_of_two_rules_wins_key_by_key(tmp_path):
    """A rule changes only the limits that it names."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.alpha == 0.01
    assert policy.limits("digits-sde pgd linf eps=0.03") == Limits(max_drop=0.03)
    assert policy.limits("digits-ode clean") == Limits(max_drop=0.01, min_images=300)
    assert policy.limits("digits-ode fog 4") == Limits(max_drop=0.03, min_images=300, required=False)
    assert policy.limits("digits-ode fog 5") == Limits(max_drop=0.1, min_images=300, required=True)


def test_what_is_typed_wins_over_the_top_of_the_file(tmp_path):
    """Rules for cells stay."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = load_policy(tmp_path / "policy.yaml", max_drop=0.05, alpha=0.1)
    assert (policy.max_drop, policy.alpha) == (0.05, 0.1)
    assert policy.limits("digits-sde clean").max_drop == 0.01
    assert load_policy(max_drop=0.05).limits("anything").max_drop == 0.05


WRONG = [
    ("max-drop: 0.02", "did you mean 'max_drop'"),
    ("max_drop: 2", "max_drop: must be below 1"),
    ("max_drop: 0", "max_drop: must be above 0"),
    ("alpha: .nan", "alpha"),
    ("alpha: 0", "alpha: must be above 0"),
    ("alpha: 0.51", "alpha: must be at most 0.5"),
    ("max_drop: 1", "max_drop: must be below 1"),
    ("min_images: 0", "min_images"),
    ("cells: [{match: '*', max_drop: 0}]", "cells.0.max_drop"),
    ("cells: [{match: '*', max_drop: 1}]", "cells.0.max_drop"),
    ("cells: [{match: '*', min_images: 0}]", "cells.0.min_images"),
    ("cells: [{match: ''}]", "cells.0.match"),
    ("versus: [{reference: '', match: '*', max_below: 0.1}]", "versus.0.reference"),
    ("versus: [{reference: a, match: '', max_below: 0.1}]", "versus.0.match"),
    ("versus: [{reference: a, match: '*', max_below: 0}]", "versus.0.max_below"),
    ("versus: [{reference: a, match: '*', max_below: 1}]", "versus.0.max_below"),
    ("cells: [{max_drop: 0.1}]", "cells.0.match"),
    ("cells: [{match: '*', maxdrop: 0.1}]", "cells.0.maxdrop"),
    ("cells: 3", "cells"),
    ("3", "key: value"),
    ("max_drop: [", "is not YAML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_policy_is_one_line_that_names_the_key(tmp_path, text, message):
    """And the file."""
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(BenchError, match=r"policy\.yaml") as caught:
        load_policy(tmp_path / "policy.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_outermost_values_of_a_policy_are_accepted(tmp_path):
    """Limits that are just inside their ranges: one image, half a point, names of one letter."""
    text = (
        "{alpha: 0.5, max_drop: 0.999, min_images: 1, cells: [{match: n, max_drop: 1.0e-9, min_images: 1}], "
        "versus: [{reference: a, match: b, max_below: 0.999}, {reference: a, match: b, max_below: 1.0e-9}]}"
    )
    (tmp_path / "policy.yaml").write_text(text)
    policy = load_policy(tmp_path / "policy.yaml")
    assert (policy.alpha, policy.max_drop, policy.min_images) == (0.5, 0.999, 1)
    assert policy.limits("n") == Limits(max_drop=1e-9, min_images=1)
    assert policy.limits("m") == Limits(max_drop=0.999, min_images=1)
    assert [rule.max_below for rule in policy.versus] == [0.999, 1e-9]


def test_without_a_file_two_points_are_tolerated_at_five_per_cent():
    """The defaults that docs/ci.md states: a rule for every cell, all required."""
    policy = load_policy()
    assert (policy.max_drop, policy.alpha, policy.min_images, policy.required) == (0.02, 0.05, 1, True)
    assert (policy.cells, policy.versus) == ((), ())


def test_brackets_in_a_pattern_are_letters(tmp_path):
    """Names of checkpoints may hold them; `*` and `?` alone stand for something else."""
    (tmp_path / "policy.yaml").write_text('cells:\n  - match: "ode [v1]? *"\n    max_drop: 0.2\n')
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.limits("ode [v1]x clean").max_drop == 0.2
    assert policy.limits("ode vx clean").max_drop != 0.2
    assert policy.unused(["ode v clean"]) == ["ode [v1]? *"]


@pytest.mark.parametrize("pattern", ["* eps=8/255", "* eps=0.0313725", "net pgd linf *"])
def test_a_budget_in_grey_levels_may_be_written_as_a_decimal(tmp_path, pattern):
    """Tables say ``8/255``; policies of earlier versions hold the decimal, and still mean this cell."""
    (tmp_path / "policy.yaml").write_text(f'cells:\n  - match: "{pattern}"\n    max_drop: 0.2\n')
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.limits("net pgd linf eps=8/255").max_drop == 0.2
    assert policy.unused(["net pgd linf eps=8/255"]) == []
    if "eps" in pattern:
        assert policy.limits("net pgd linf eps=9/255").max_drop != 0.2
