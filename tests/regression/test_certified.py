"""The gate on certified accuracy: a third number that may regress, in runs and in baselines."""

from dataclasses import replace

import numpy as np
import pytest
from regression.worlds import make_cell, make_side, write_run

from robustbench_sde.errors import ExitCode, InvalidEvaluationError
from robustbench_sde.evaluation.bounds import certified_radius
from robustbench_sde.evaluation.certificate_report import (
    Bracket,
    CertificateReport,
    ImageCertificate,
    write_report,
    write_reports,
)
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.regression.baseline import read_baseline, save_baseline
from robustbench_sde.regression.compare import compare
from robustbench_sde.regression.measured import read_run
from robustbench_sde.regression.policy import Limits, Policy, PolicyRule
from robustbench_sde.regression.verdict import Verdict

IMAGES, RADII, SIGMA = 300, (0.0, 0.25), 0.25


def certificate(image, *, proven):
    """An image that is certified at 0.25, or at 0 alone."""
    p = 0.99 if proven else 0.7
    return ImageCertificate(image, 1, 1, False, p, certified_radius(p, SIGMA), True, 100)


def make_report(lost=0, **changes):
    """All images are certified at radius 0, and all but `lost` ones and the last 50 at 0.25."""
    certificates = tuple(certificate(i, proven=lost <= i < IMAGES - 50) for i in range(IMAGES))
    shares = (1.0, (IMAGES - 50 - lost) / IMAGES)
    report = CertificateReport(
        checkpoint="net@0.25", sha256="sha256:00", key=f"{lost:016x}", dataset="digits",
        fingerprint="sha256:aa", images=IMAGES, noise="additive", sigma=0.5, solver="euler", solver_steps=8,
        smoothing=SIGMA, rule="vote", draws=1000, select_draws=100, alpha=0.001, early=True, seed=0,
        brackets=tuple(Bracket(r, wilson(s, IMAGES)) for r, s in zip(RADII, shares, strict=True)),
        average_radius=0.3, abstained=0.0, mean_draws=100.0, status="ok", seconds=1.0,
        certificates=certificates,
    )  # fmt: skip
    return replace(report, **changes)


def run_with(path, report):
    """The folder of a run with a clean cell and certificates."""
    side = make_side(make_cell(np.ones(IMAGES, bool), perturbation="clean", norm="", eps=None))
    write_run(path, side)
    write_report(path, report)
    write_reports(path, [report])
    return read_run(path)


def verdicts(comparison):
    """The verdict of each cell by its name."""
    return {cell.name: cell.verdict for cell in comparison.cells}


def test_a_drop_of_certified_accuracy_is_a_regression(tmp_path):
    """40 of 300 images lose their certificate at 0.25: that cell regresses, the one at 0 does not."""
    before, after = run_with(tmp_path / "a", make_report()), run_with(tmp_path / "b", make_report(lost=40))
    found = compare(before, after, Policy())
    assert verdicts(found) == {
        "net clean": Verdict.OK,
        "net@0.25 certified l2 eps=0": Verdict.OK,
        "net@0.25 certified l2 eps=0.25": Verdict.REGRESSION,
    }
    (change,) = found.cells[2].changes
    assert change.measure == "certified_accuracy"
    assert found.cells[2].reason.startswith("certified accuracy lost 13.3 (")
    assert found.exit_code is ExitCode.REGRESSION
    assert compare(after, before, Policy()).cells[2].verdict is Verdict.IMPROVED


def test_a_policy_has_limits_of_its_own_for_certificates(tmp_path):
    """A pattern of the cells' names sets the drop that is tolerated."""
    before, after = run_with(tmp_path / "a", make_report()), run_with(tmp_path / "b", make_report(lost=40))
    policy = Policy(cells=(PolicyRule(match="* certified l2 *", max_drop=0.2),))
    found = compare(before, after, policy)
    assert found.exit_code is ExitCode.OK
    assert [cell.limits.max_drop for cell in found.cells] == [Limits().max_drop, 0.2, 0.2]


def test_a_baseline_holds_certificates(tmp_path):
    """Saved and read back, certified cells compare as those of the run."""
    before, after = run_with(tmp_path / "a", make_report()), run_with(tmp_path / "b", make_report(lost=40))
    save_baseline(before, tmp_path / "baseline.json")
    baseline = read_baseline(tmp_path / "baseline.json")
    assert verdicts(compare(baseline, after, Policy())) == verdicts(compare(before, after, Policy()))
    assert compare(baseline, before, Policy()).exit_code is ExitCode.OK


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"draws": 500}, "draws=1000 -> draws=500"), ({"rule": "mean-prob"}, "rule vote -> ")],
)
def test_other_certificates_are_another_measurement(tmp_path, changes, word):
    """Another number of draws or another rule is not compared, and the reason names the difference."""
    before, after = run_with(tmp_path / "a", make_report()), run_with(tmp_path / "b", make_report(**changes))
    cell = compare(before, after, Policy()).cells[2]
    assert cell.verdict is Verdict.INCOMPARABLE
    assert word in cell.reason


def test_contradicted_certificates_are_not_valid(tmp_path):
    """A run whose certificates an attack contradicts is exit code 4, and no baseline."""
    wrong = make_report(status="invalid: 1 certificate contradicted by pgd (image 3 at 0.25)")
    before, after = run_with(tmp_path / "a", make_report()), run_with(tmp_path / "b", wrong)
    assert compare(before, after, Policy()).exit_code is ExitCode.INVALID
    with pytest.raises(InvalidEvaluationError, match="contradicted"):
        save_baseline(after, tmp_path / "baseline.json")
