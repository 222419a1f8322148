"""Certificates on the page and in figures: what is proven, the attack above it, and contradictions in red."""

from dataclasses import replace

import numpy as np
import pytest
from regression.test_certified import make_report
from reporting.conftest import HOSTILE
from reporting.test_page import Parsed

from robustbench_sde.evaluation.certificate_report import write_report, write_reports
from robustbench_sde.reporting.bracket_figure import _certified, bracket_figure
from robustbench_sde.reporting.certificates import certificate_rows, certificate_sentences
from robustbench_sde.reporting.html.page import write_report as write_page
from robustbench_sde.storage.run_folder import RunFolder


def attacked(report, *, status="ok", contradictions=()):
    """The report with the accuracy under an attack beside each radius."""
    clean, moved = report.brackets
    brackets = (
        replace(clean, attacked=(1.0, 0.98, 1.0)),
        replace(moved, attacked=(0.9, 0.86, 0.93), attack="pgd", contradictions=contradictions),
    )
    return replace(report, brackets=brackets, status=status)


def test_the_page_has_the_bracket(sample, tmp_path):
    """A section with figure and table, a sentence at the top; names are text, whatever they hold."""
    run = sample.write(tmp_path)
    reports = [attacked(make_report(checkpoint=f"{HOSTILE}@0.25")), attacked(make_report(lost=40))]
    for report in reports:
        write_report(tmp_path, report)
    write_reports(tmp_path, reports)
    text = write_page(run, run)[-1].read_text(encoding="utf-8")
    page = Parsed(text)
    assert "Certified accuracy" in page.texts["h2"]
    assert "83.3 (78.7-87.1)" in page.texts["td"]
    assert "90.0 (86.0-93.0)" in page.texts["td"]
    said = "net@0.25: 70.0 (64.6-74.9) % certified within L2 0.25 by vote, 90.0 (86.0-93.0) % withstand"
    assert any(said in sentence for sentence in page.texts["li"])
    assert HOSTILE not in text
    assert {"figures/certified.svg", "figures/certified.png"} <= {
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("certified.*")
    }


def test_a_page_without_certificates_has_no_such_section(report):
    """Runs that certify nothing look as before."""
    assert 'id="certificates"' not in report.read_text(encoding="utf-8")


def test_contradictions_come_first():
    """The sentence names the images; no bracket is said of a report that must not be used."""
    wrong = attacked(make_report(), status="invalid: 1 certificate ...", contradictions=(3,))
    assert certificate_sentences([wrong]) == [
        ("bad", "Certificates of net@0.25: invalid: 1 certificate ....")
    ]
    assert certificate_rows([wrong])[0][1][1:5] == ["0.25", "83.3 (78.7-87.1)", "90.0 (86.0-93.0)", "6.7"]


def test_certified_accuracy_is_a_step_at_every_radius():
    """An image counts up to its radius, and no longer at it."""
    radii = np.array([-1.0, 0.2, 0.4, 0.4])
    shares = _certified(radii, np.array([0.0, 0.1999, 0.2, 0.3999, 0.4]))
    np.testing.assert_allclose(shares, [75, 75, 50, 50, 0])


@pytest.mark.parametrize("count", [0, 1, 6])
def test_the_figure_has_a_panel_for_each_smoothing(tmp_path, count):
    """Four panels at most, and the caption says how many were left out; nothing is drawn of nothing."""
    reports = [attacked(make_report(smoothing=0.1 * (place + 1))) for place in range(count)]
    drawn = bracket_figure(reports, RunFolder(tmp_path))
    assert len(drawn) == min(count, 1)
    if count:
        svg = (tmp_path / "figures" / "certified.svg").read_text()
        assert ("smoothing 0.4, vote" in svg, "smoothing 0.5, vote" in svg) == (count > 4, False)
        assert ("2 panels left out" in drawn[0].caption) == (count == 6)
