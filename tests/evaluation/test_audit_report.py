"""The file of an audit: its name in the folder of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.audit.report import AuditReport, AuditVerdict, default_folder, read_audits
from robustbench_sde.evaluation.statistics import Interval
from robustbench_sde.storage.run_folder import RunFolder


def make_report(name, sha256):
    return AuditReport(name, sha256, "digits", 50, 0, AuditVerdict.PASS, (), 1.0)


@pytest.mark.parametrize(
    ("name", "sha256", "file"),
    [
        ("m", "sha256:aa", "a/m"),
        ("m", "sha256:bb", "b/m"),
        ("n", "sha256:bb", "b/m"),
        ("n", "sha256:cc", "n"),
        ("m", "", "m"),
        ("twin", "sha256:dd", "twin"),
    ],
    ids=["in the run", "its namesake", "renamed", "another network", "no file", "a file of two names"],
)
def test_an_audit_in_the_folder_of_a_run_has_the_name_of_the_run(tmp_path, name, sha256, file):
    """The hash of the file finds the name; without the run, or without it in the run, its own name stays."""
    checkpoints = {"a/m": "sha256:aa", "b/m": "sha256:bb", "first": "sha256:dd", "twin": "sha256:dd"}
    RunFolder(tmp_path / "run").write_manifest(
        {
            "format": 1,
            "command": "sde-bench run smoke",
            "complete": True,
            "versions": {},
            "git_revision": None,
            "dataset": {"name": "digits"},
            "checkpoints": checkpoints,
            "cells": [],
        }
    )
    report = make_report(name, sha256)
    assert report.write(tmp_path / "run") == tmp_path / "run" / "audits" / f"{file}.json"
    (found,) = read_audits(tmp_path / "run")
    assert (found.checkpoint, found.sha256) == (file, sha256)
    assert report.write(tmp_path / "alone") == tmp_path / "alone" / "audits" / f"{name}.json"


def test_namesakes_of_two_folders_have_folders_of_their_own(tmp_path, monkeypatch):
    """The folder of an audit is named after the checkpoint, and after its folder too if that is taken."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "m.safetensors").touch()
    plain, file = Path("reports") / "audit-m", Path("b") / "m.safetensors"
    assert default_folder(make_report("m", "sha256:bb"), file) == plain
    make_report("m", "sha256:aa").write(plain)
    assert default_folder(make_report("m", "sha256:aa"), file) == plain
    assert default_folder(make_report("m", "sha256:bb"), None) == plain
    assert default_folder(make_report("m", "sha256:bb"), file) == Path("reports") / "audit-b-m"


def test_only_another_audit_is_replaced(tmp_path):
    """Nothing that could be missed is replaced by an equal audit, or where the file is damaged."""
    report = make_report("m", "sha256:aa")
    assert report.replaced_in(tmp_path) is None
    path = report.write(tmp_path)
    assert replace(report, seconds=9.0).replaced_in(tmp_path) is None
    for change in ({"seed": 1}, {"images": 51}, {"sha256": "sha256:bb"}, {"setting": "pgd linf 0.03"}):
        assert replace(report, **change).replaced_in(tmp_path) == report
    path.write_text("{")
    assert replace(report, seed=1).replaced_in(tmp_path) is None


def test_a_report_shows_itself_in_one_line():
    """The verdict, the network and the data stand in it, and the number if there is one."""
    report = make_report("m", "")
    assert repr(report) == "<AuditReport: pass m, digits, 50 images>"
    number = replace(report, images=1, accuracy=Interval(0.56, 0.4, 0.7), setting="pgd linf 0.03")
    assert repr(number) == "<AuditReport: pass m, digits, 1 image, 56.0 % under pgd linf 0.03>"


def test_a_damaged_report_is_named(tmp_path):
    """The file stands in the message, and what to do."""
    path = make_report("m", "").write(tmp_path)
    path.write_text("{")
    with pytest.raises(BenchError, match=r"m\.json is damaged .*; delete it and audit again"):
        read_audits(tmp_path)


def test_a_changed_audit_is_not_shown(tmp_path):
    """An edited number is refused with the file's name; reports of earlier versions have no digest."""
    report = make_report("m", "sha256:aa")
    path = report.write(tmp_path)
    written = path.read_text()
    assert '"images": 50' in written
    path.write_text(written.replace('"images": 50', '"images": 5000'))
    with pytest.raises(BenchError, match=r"m\.json is damaged \(its values were changed after"):
        read_audits(tmp_path)
    path.write_text(report.to_json())
    assert read_audits(tmp_path) == [report]
