"""Files of a gate for another repository, as texts."""

import pytest
import yaml

from robustbench_sde.regression.policy import Policy, load_policy
from robustbench_sde.regression.scaffold import gitignore_text, policy_text, suite_text, workflow_text


@pytest.mark.parametrize("place", [None, "data"])
def test_a_suite_holds_what_was_asked_for(place):
    """Every attack has the budgets, and pgd few steps; a whole grey level is written as one."""
    asked = {"dataset": "digits", "images": 50, "norm": "linf"}
    spec = yaml.safe_load(
        suite_text(
            ["a.pt", "b.pt"], data_dir=place, attacks=["fgsm", "pgd", "square"], eps=[8 / 255, 0.25], **asked
        )
    )
    assert (spec["checkpoints"], spec["images"], spec["score_draws"]) == (["a.pt", "b.pt"], 50, 16)
    assert spec.get("data_dir", None) == place
    budgets = {"norm": "linf", "eps": ["8/255", 0.25]}
    assert spec["perturbations"] == [
        {"attack": "fgsm"} | budgets,
        {"attack": "pgd", "steps": 10, "eot_draws": 4} | budgets,
        {"attack": "square"} | budgets,
        {"corruption": ["gaussian_noise", "fog"], "severity": 3},
    ]
    (one, _) = yaml.safe_load(
        suite_text(["a.pt"], data_dir=None, attacks=["fgsm"], eps=[8.1 / 255], **asked)
    )["perturbations"]
    assert one["eps"] == 8.1 / 255


def test_the_policy_is_one_of_the_gate(tmp_path):
    """The limit is that which was asked for, and all else is as without a policy."""
    (tmp_path / "policy.yaml").write_text(policy_text(0.035))
    assert load_policy(tmp_path / "policy.yaml") == Policy(max_drop=0.035)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ("", "reports/\n"),
        ("a", "a\nreports/\n"),
        ("a\n", "a\nreports/\n"),
        ("a\n /reports\nb", "a\n /reports\nb"),
        ("reports/page", "reports/page\nreports/\n"),
    ],
)
def test_the_folder_of_runs_is_ignored_once(present, expected):
    """A line is added at the end unless there is one."""
    assert gitignore_text(present) == expected


@pytest.mark.parametrize(
    ("dataset", "place", "cached"),
    [
        ("digits", None, None),
        ("digits:8", "data", None),
        ("module:load", None, None),
        ("cifar10", None, "~/.cache/sde-bench-data"),
        ("cifar10", "data", "data"),
    ],
)
def test_a_workflow_caches_what_it_downloads(dataset, place, cached):
    """Data that are in the package, or that a module loads, are neither downloaded nor cached."""
    steps = yaml.safe_load(workflow_text("git+https://x@1", dataset=dataset, data_dir=place))["jobs"]["gate"][
        "steps"
    ]
    paths = [step["with"]["path"] for step in steps if step.get("uses", "").startswith("actions/cache@")]
    assert paths == ([] if cached is None else [cached])
    (measure,) = (step["run"] for step in steps if step.get("name") == "Measure")
    assert measure.endswith(" --download") == (cached is not None)
