"""Give pytest the fixture `robustness_gate`: a test fails with the sentence of the gate.

Pytest imports this module whenever it starts; nothing heavy is imported before a test asks for the gate.
"""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from robustbench_sde.errors import BenchError

if TYPE_CHECKING:
    from robustbench_sde.api.result import Result
    from robustbench_sde.regression.verdict import Comparison

#: settings of pytest with their defaults: the files that `sde-bench gate init` writes
_SETTINGS = {
    "robustness_suite": ("robustness/suite.yaml", "suite that robustness_gate runs"),
    "robustness_baseline": ("robustness/baseline.json", "baseline that robustness_gate compares with"),
    "robustness_policy": ("robustness/policy.yaml", "policy of robustness_gate; used if the file exists"),
    "robustness_run": ("reports/gate", "folder of the run of robustness_gate"),
}


@dataclass
class RobustnessGate:
    """Gate of a test; it is asked by calling it, or after the test if the test does not call it."""

    #: folder that paths start from
    root: Path
    #: values of the settings `robustness_...`
    settings: dict[str, str]
    #: answers so far
    answers: "list[Comparison]" = field(default_factory=list)

    def __call__(
        self,
        run: "Result | str | Path | None" = None,
        *,
        suite: str | Path | None = None,
        baseline: str | Path | None = None,
        policy: str | Path | None = None,
        max_drop: float | None = None,
        allow_inconclusive: bool = False,
    ) -> "Comparison":
        """Compare a run with a baseline and fail the test if robustness has regressed.

        Args:
            run: result or folder of a run; None: the suite is run, and stored cells are taken up.
            suite: file or name of the suite; None: the setting `robustness_suite`.
            baseline: run or baseline file; None: the setting `robustness_baseline`.
            policy: YAML file with limits; None: the setting `robustness_policy`, if there is such a file.
            max_drop: as in `rb.compare`.
            allow_inconclusive: whether a test passes if there are too few images to decide.

        Returns:
            The comparison, if the test goes on.
        """
        import robustbench_sde as rb

        limits = self.root / self.settings["robustness_policy"]
        try:
            with contextlib.chdir(self.root):
                if run is None:
                    asked = suite or self.settings["robustness_suite"]
                    run = rb.run(asked, out=self.settings["robustness_run"], force="suite")
                found = rb.compare(
                    baseline or self.settings["robustness_baseline"],
                    run,
                    policy=policy or (limits if limits.exists() else None),
                    max_drop=max_drop,
                )
        except BenchError as error:
            pytest.fail(f"robustness gate: {error}", pytrace=False)
        self.answers.append(found)
        accepted = (0, 3) if allow_inconclusive else (0,)
        if found.exit_code not in accepted:
            cells = "".join(f"\n  {cell.verdict} {cell.name}: {cell.reason}" for cell in found.changed)
            pytest.fail(f"robustness gate: {found.sentence}{cells}", pytrace=False)
        return found


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings to those of pytest's configuration file."""
    for name, (default, explanation) in _SETTINGS.items():
        parser.addini(name, explanation, default=default)


@pytest.fixture
def robustness_gate(pytestconfig: pytest.Config) -> RobustnessGate:
    """Give the gate of this test, which fails the test if robustness has regressed."""
    settings = {name: str(pytestconfig.getini(name)) for name in _SETTINGS}
    return RobustnessGate(pytestconfig.rootpath, settings)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Ask the gate after a test that has it and has not called it."""
    outcome = yield
    gate = pyfuncitem.funcargs.get("robustness_gate")
    if isinstance(gate, RobustnessGate) and not gate.answers:
        gate()
    return outcome
