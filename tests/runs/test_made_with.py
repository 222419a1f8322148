"""Each cell says what it was made with: versions, device, threads and batch size."""

import shutil
from dataclasses import replace
from importlib import metadata

import pytest
import torch
import yaml
from builders import save_digits_model

import robustbench_sde as rb
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.evaluation.stability.report import write_stability
from robustbench_sde.models.compute import Compute
from robustbench_sde.runs import certificates
from robustbench_sde.storage import provenance
from robustbench_sde.storage.provenance import different, other_versions
from robustbench_sde.storage.run_folder import RunFolder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with a small checkpoint."""
    monkeypatch.chdir(tmp_path)
    save_digits_model(tmp_path / "checkpoints" / "tiny.safetensors", "additive")
    return tmp_path


def with_torch(monkeypatch, version):
    monkeypatch.setattr(
        provenance, "_version", lambda name: version if name == "torch" else metadata.version(name)
    )


def test_the_manifest_names_the_versions_of_each_cell(place, monkeypatch):
    """A run that goes on under another torch has both, says so, and its new cells name the new one."""
    data = rb.load_dataset("digits", images=4)
    asked = {"eps": 0.1, "steps": 1, "score_draws": 2, "out": "run"}
    with_torch(monkeypatch, "2.6.0")
    rb.attack("tiny", data, "pgd", **asked)
    manifest = RunFolder(place / "run").read_manifest()
    (only,) = manifest["made_with"]
    assert only["versions"]["torch"] == "2.6.0"
    assert (only["device"], only["threads"], only["batch_size"]) == ("cpu", torch.get_num_threads(), 256)
    assert {cell["made_with"] for cell in manifest["cells"]} == {0}
    with_torch(monkeypatch, "2.7.0")
    with pytest.warns(BenchWarning, match=r"3 stored cells made with torch 2\.6\.0 \(now 2\.7\.0\)"):
        rb.attack("tiny", data, ["pgd", "square"], **asked)
    manifest = RunFolder(place / "run").read_manifest()
    assert [made["versions"]["torch"] for made in manifest["made_with"]] == ["2.6.0", "2.7.0"]
    by_cell = {cell["perturbation"].partition("(")[0]: cell["made_with"] for cell in manifest["cells"]}
    assert by_cell["Square"] == 1
    assert by_cell["PGD"] == by_cell["Clean"] == 0


def test_strict_versions_makes_cells_of_other_versions_again(place, monkeypatch):
    """Cells of the same versions are reused; those of others, and those that do not say, are not."""
    data = rb.load_dataset("digits", images=4)
    asked = {"eps": 0.1, "steps": 1, "score_draws": 2, "out": "run"}
    strict = Compute(strict_versions=True)
    with_torch(monkeypatch, "2.6.0")
    rb.attack("tiny", data, "pgd", **asked)
    assert rb.attack("tiny", data, "pgd", device=strict, **asked).reused == 3
    with_torch(monkeypatch, "2.7.0")
    with pytest.warns(BenchWarning, match=r"computed again: 3 cells made with torch 2\.6\.0 \(now 2\.7\.0\)"):
        assert rb.attack("tiny", data, "pgd", device=strict, **asked).reused == 0
    manifest = RunFolder(place / "run").read_manifest()
    assert [made["versions"]["torch"] for made in manifest["made_with"]] == ["2.7.0"]


def test_a_manifest_of_another_format_is_refused(place):
    """A later version may mean something else by the same words."""
    rb.score("tiny", rb.load_dataset("digits", images=4), score_draws=2, out="run")
    path = place / "run" / "manifest.yaml"
    manifest = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(manifest | {"format": 2}))
    with pytest.raises(BenchError, match="its format is 2, and this version reads format 1"):
        RunFolder(place / "run").read_manifest()


def test_a_cell_of_several_machines_says_what_each_had():
    """Pieces of one cell may be made with other versions; one of them is enough to name it."""
    now = provenance.versions()
    here, there = {"versions": now}, {"versions": now | {"numpy": "1.0"}}
    assert different([here, there, {}, here]) == [here, there]
    assert other_versions(here) == other_versions({}) == ""
    assert other_versions({"pieces": [here, there]}) == f"numpy 1.0 (now {now['numpy']})"


def test_certificates_say_what_they_were_made_with(place, monkeypatch):
    """Report and manifest name the versions; under another torch stored ones are named, or made again."""
    data = rb.load_dataset("digits", images=10)  # two parts
    asked = {"draws": 20, "select_draws": 2, "out": "run"}
    with_torch(monkeypatch, "2.6.0")
    (report,) = rb.certify("tiny", data, **asked).reports
    assert report.made_with["versions"]["torch"] == "2.6.0"
    assert (report.made_with["device"], report.made_with["batch_size"]) == ("cpu", 256)
    manifest = RunFolder(place / "run").read_manifest()
    assert [made["versions"]["torch"] for made in manifest["made_with"]] == ["2.6.0"]
    assert [entry["made_with"] for entry in manifest["certificates"]] == [0]
    with_torch(monkeypatch, "2.7.0")
    with pytest.warns(BenchWarning, match=r"1 stored certificate made with torch 2\.6\.0 \(now 2\.7\.0\)"):
        again = rb.certify("tiny", data, **asked)
    assert (again.reused, again.reports[0].made_with) == (1, report.made_with)
    strict = Compute(strict_versions=True)
    with pytest.warns(BenchWarning, match=r"1 stored certificate made with torch 2\.6\.0 .*: made again"):
        again = rb.certify("tiny", data, device=strict, **asked)
    assert again.reused == 0
    assert again.reports[0].made_with["versions"]["torch"] == "2.7.0"
    assert rb.certify("tiny", data, device=strict, **asked).reused == 1
    manifest = RunFolder(place / "run").read_manifest()
    assert [made["versions"]["torch"] for made in manifest["made_with"]] == ["2.7.0"]


def test_parts_of_a_certificate_may_be_of_two_versions(place, monkeypatch):
    """A report that was gone on with under another torch names both, and strictly no old part is used."""
    data = rb.load_dataset("digits", images=10)
    asked = {"draws": 20, "select_draws": 2, "out": "run"}

    def only_one(path, *rest):
        write(path, *rest)
        raise KeyboardInterrupt

    write = certificates.write_certificates
    with_torch(monkeypatch, "2.6.0")
    with monkeypatch.context() as patched:
        patched.setattr(certificates, "write_certificates", only_one)
        with pytest.raises(KeyboardInterrupt):
            rb.certify("tiny", data, **asked)
    stopped = shutil.copytree(place / "run", place / "stopped")
    with_torch(monkeypatch, "2.7.0")
    with pytest.warns(BenchWarning, match=r"1 stored certificate made with torch 2\.6\.0"):
        (report,) = rb.certify("tiny", data, **asked).reports
    assert [made["versions"]["torch"] for made in report.made_with["pieces"]] == ["2.6.0", "2.7.0"]
    with pytest.warns(BenchWarning, match="made again"):
        (report,) = rb.certify(
            "tiny", data, device=Compute(strict_versions=True), **asked | {"out": stopped}
        ).reports
    assert report.made_with["versions"]["torch"] == "2.7.0"


def test_stability_reports_say_what_they_were_made_with(place, monkeypatch):
    """Under another torch a stored report is named, or strictly made again; earlier ones say nothing."""
    data = rb.load_dataset("digits", images=2)
    asked = {"paths": 1, "steps": 1, "eot_draws": 1, "score_draws": 1, "out": "run"}
    strict = Compute(strict_versions=True)
    with_torch(monkeypatch, "2.6.0")
    (report,) = rb.stability("tiny", data, **asked).reports
    assert report.made_with["versions"]["torch"] == "2.6.0"
    assert rb.stability("tiny", data, device=strict, **asked).reused == 1
    with_torch(monkeypatch, "2.7.0")
    with pytest.warns(BenchWarning, match=r"report of tiny made with torch 2\.6\.0 \(now 2\.7\.0\)"):
        again = rb.stability("tiny", data, **asked)
    assert (again.reused, again.reports[0].made_with) == (1, report.made_with)
    with pytest.warns(BenchWarning, match=r"stability report of tiny made with torch 2\.6\.0 .*: made again"):
        (report,) = rb.stability("tiny", data, device=strict, **asked).reports
    assert report.made_with["versions"]["torch"] == "2.7.0"
    write_stability(place / "run", replace(report, made_with={}))
    with pytest.warns(BenchWarning, match="by an earlier version, which did not write what it was made with"):
        assert rb.stability("tiny", data, device=strict, **asked).reused == 0
