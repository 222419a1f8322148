"""Files of certificates in the folder of a run."""

import json
import math
from dataclasses import replace

import pytest

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.certificate_report import (
    Bracket,
    CertificateReport,
    ImageCertificate,
    read_reports,
    to_json,
    write_report,
    write_reports,
)

NOTHING = (math.nan,) * 3


def make_report(**changes):
    """Two of four images are certified at radius .2, three at 0."""
    radii = (0.3, 0.3, 0.1, 0.0)
    report = CertificateReport(
        checkpoint="net@0.25", sha256="sha256:00", key="0123456789abcdef", dataset="digits",
        fingerprint="sha256:aa", images=4, noise="additive", sigma=0.5, solver="euler", solver_steps=8,
        smoothing=0.25, rule="vote", draws=1000, select_draws=100, alpha=0.001, early=True, seed=0,
        brackets=(
            Bracket(0.0, (0.75, 0.3, 0.95), (1.0, 0.5, 1.0)),
            Bracket(0.2, (0.5, 0.15, 0.85), (0.5, 0.15, 0.85), (1, 3), "apgd-ce"),
            Bracket(0.25, (0.5, 0.15, 0.85), None),
        ),
        average_radius=0.175, abstained=0.25, mean_draws=100.0, status="ok", seconds=1.0,
        certificates=tuple(
            ImageCertificate(image, 1, 1, radius == 0, 0.9 if radius else 0.4, radius, radius > 0, 100)
            for image, radius in enumerate(radii)
        ),
    )  # fmt: skip
    return replace(report, **changes)


def test_reports_come_back_as_they_were_written(tmp_path):
    """The table has a row for each radius; the file has all else."""
    assert read_reports(tmp_path) == ()
    report = make_report()
    write_report(tmp_path, report)
    table = write_reports(tmp_path, [report])
    (found,) = read_reports(tmp_path)
    assert found == report
    assert (found.ok, found.attack) == (True, "apgd-ce")
    assert table["radius"].tolist() == [0.0, 0.2, 0.25]
    assert table["certified_accuracy"].tolist() == [0.75, 0.5, 0.5]
    assert table["attacked_accuracy"].tolist()[:2] == [1.0, 0.5]
    assert math.isnan(table["attacked_accuracy"].iloc[2])
    assert table["contradictions"].tolist() == [0, 2, 0]
    assert table["sigma"].tolist() == [0.5] * 3
    assert json.loads(to_json([report]))[0]["checkpoint"] == "net@0.25"


def test_a_scale_of_noise_that_is_not_known_is_no_number():
    """The table of a classifier with noise of its own has NaN there."""
    assert all(math.isnan(row["sigma"]) for row in make_report(sigma=None).rows())


def test_what_failed_has_rows_and_no_file(tmp_path):
    """A classifier that could not be certified keeps its radii and its status."""
    failed = make_report(
        brackets=tuple(Bracket(radius, NOTHING) for radius in (0.0, 0.2)),
        status="failed: no memory",
        certificates=(),
    )
    write_reports(tmp_path, [failed])
    (found,) = read_reports(tmp_path)
    assert (found.ok, found.status, found.checkpoint) == (False, "failed: no memory", "net@0.25")
    assert [bracket.radius for bracket in found.brackets] == [0.0, 0.2]
    assert all(math.isnan(value) for bracket in found.brackets for value in bracket.certified)
    assert found.attack == ""


def test_files_that_do_not_fit_are_named(tmp_path):
    """A file is missing, or its shares are not those of its images."""
    write_reports(tmp_path, [make_report()])
    with pytest.raises(BenchError, match="no file of certificate 0123456789abcdef"):
        read_reports(tmp_path)
    wrong = Bracket(0.2, (0.75, 0.3, 0.95), (0.5, 0.15, 0.85), (), "apgd-ce")
    write_report(tmp_path, make_report(brackets=(wrong,)))
    with pytest.raises(BenchError, match="shares do not follow from its certificates"):
        read_reports(tmp_path)
