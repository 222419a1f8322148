"""Certified cells of a run: in suites, part by part, beside the attacks of the run."""

import contextlib
import time

import numpy as np
import pandas as pd
import pytest
from builders import make_data, make_model, save_digits_model
from forked import finished, sde_bench

import robustbench_sde as rb
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.certificate_report import read_reports
from robustbench_sde.evaluation.certify_settings import CertifySettings
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.models.compute import Compute
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import PART, Cell, CertifyCell
from robustbench_sde.runs.certificates import Certificates
from robustbench_sde.runs.cluster.parcel import PackedImages, Parcel, files_of, software
from robustbench_sde.runs.engine import LocalEngine
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.sources import LiveSource, Source
from robustbench_sde.runs.suite.suite import Suite
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder

SUITE = """
images: 20
smoothing: [none, 0.2]
rules: vote
score_draws: 4
perturbations:
  - {certify: vote, radius: [0, 0.1], draws: 60, select_draws: 5}
  - {attack: pgd, norm: l2, eps: 0.1, steps: 1, eot_draws: 1}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a suite and two checkpoints, and the process in it."""
    for kind in ("additive", "none"):
        save_digits_model(tmp_path / f"{kind}.safetensors", kind, steps=2)
    (tmp_path / "s.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_seconds(reports):
    """The table of reports but for the time that they took."""
    rows = pd.DataFrame([row for report in reports for row in report.rows()])
    return rows.drop(columns="seconds")


def test_a_suite_certifies_smoothed_classifiers_beside_its_attacks(place):
    """The table has certified and attacked accuracy; the manifest its settings; the next run finds all."""
    paths = [place / "additive.safetensors", place / "none.safetensors"]
    result = rb.run("s.yaml", paths, out="run")
    assert [report.checkpoint for report in result.certificates] == ["additive@0.2", "none@0.2"]
    table = pd.read_parquet("run/certificates.parquet")
    assert list(table["radius"]) == [0, 0.1] * 2
    assert list(table["attack"]) == ["", "pgd"] * 2
    summary = result.summary[result.summary["norm"] != "linf"].set_index(["checkpoint", "perturbation"])
    for row in table.to_dict("records"):
        kind = "pgd" if row["radius"] else "clean"
        assert row["attacked_accuracy"] == summary.loc[(row["checkpoint"], kind), "accuracy"]
    manifest = RunFolder(place / "run").read_manifest()
    assert [entry["draws"] for entry in manifest["certificates"]] == [60, 60]
    assert manifest["complete"]
    again = rb.run("s.yaml", paths, out="run")
    assert again.reused_certificates == 2
    assert again.plan.lines()[-1].split() == ["stored", "none@0.2", "certified", "vote"]
    assert again.certificates == result.certificates
    assert read_reports(place / "run") == result.certificates
    assert not (place / "run" / "certificates" / "parts").exists()


class Impatient(LocalEngine):
    """Ctrl-C after so many parts."""

    def __init__(self, parts):
        super().__init__()
        self.left = parts
        self.asked = 0

    def certify(self, parts, data, compute):
        """Interrupt, and count what was asked for."""
        self.asked += len(parts)
        for done in super().certify(parts, data, compute):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield done


def test_an_interruption_within_a_checkpoint_loses_one_part(tmp_path):
    """Parts that were stored before Ctrl-C are kept, and the report is that of an undisturbed run."""
    data = make_data(3 * PART - 2)
    cell = CertifyCell.of(
        LiveSource.around(make_model()).smoothed(0.2), CertifySettings(draws=40, select_draws=4)
    )

    def certify(folder, engine):
        found = Certificates(data, [cell], RunFolder(folder))
        found.run(engine, Compute(), Bars())
        return found.reports({}, lambda cell: pd.DataFrame())

    undisturbed = certify(tmp_path / "whole", LocalEngine())
    with pytest.raises(KeyboardInterrupt):
        certify(tmp_path / "cut", Impatient(2))
    assert len(list((tmp_path / "cut" / "certificates" / "parts").glob("*.parquet"))) == 2
    later = Impatient(9)
    pd.testing.assert_frame_equal(
        without_seconds(certify(tmp_path / "cut", later)), without_seconds(undisturbed), check_exact=True
    )
    assert later.asked == 1


def test_sigkill_within_a_checkpoint_loses_one_part(place):
    """Killed in the middle of a checkpoint, the same command goes on and ends in the same table."""
    command = ("certify", "additive.safetensors", "--images", 24, "--draws", 150, "--select-draws", 5)
    command += ("--all-draws", "--radius", "0,0.1", "--json", "--quiet", "--out")
    assert finished(*command, "whole", cwd=place).code == 0
    parts = place / "cut" / "certificates" / "parts"
    process = sde_bench(*command, "cut", cwd=place)
    deadline = time.monotonic() + 120
    while not list(parts.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -9
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert 0 < len(kept) < 3
    assert not (place / "cut" / "certificates.parquet").exists()
    process = sde_bench(*command, "cut", cwd=place)
    while len(list(parts.glob("*.parquet"))) <= len(kept) and process.is_alive():
        time.sleep(0.01)
    process.kill()  # once more, now that it goes on: what was there is still what it was
    process.join()
    assert {path: path.stat().st_mtime_ns for path in kept if path.exists()} == kept
    assert finished(*command, "cut", cwd=place).code == 0
    reports = [read_reports(place / name) for name in ("cut", "whole")]
    pd.testing.assert_frame_equal(*map(without_seconds, reports), check_exact=True)
    assert reports[0][0].certificates == reports[1][0].certificates


@pytest.mark.parametrize("cut", [False, True])
def test_changed_certificates_are_refused(tmp_path, cut):
    """A file whose certificates or shares were changed is damage, whole or in parts."""
    result = rb.certify(make_model(), make_data(4), draws=30, select_draws=4, radius=(0.0,), out=tmp_path)
    (path,) = tmp_path.glob("certificates/*.parquet")
    content = bytearray(path.read_bytes())
    if cut:
        path.write_bytes(content[:-40])
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        pq.write_table(table.set_column(5, "radius", [[9.0] * 4]), path)
    with pytest.raises(BenchError, match="is damaged"):
        read_reports(tmp_path)
    assert result.ok


def test_a_part_that_fails_makes_the_report_invalid_and_is_tried_again(tmp_path):
    """Logits that are not finite: the row says so, nothing counts as stored, and the gate cannot use it."""

    class Broken(type(make_model())):
        def logits(self, images, image_ids, draws):
            return super().logits(images, image_ids, draws) / 0

    model = make_model()
    model.__class__ = Broken
    found = rb.certify(model, make_data(4), draws=30, radius=(0.0, 0.1), out=tmp_path)
    assert found.reports[0].status.startswith("invalid: logits are not finite")
    assert not found.ok
    assert pd.read_parquet(tmp_path / "certificates.parquet")["certified_accuracy"].isna().all()
    assert rb.certify(model, make_data(4), draws=30, radius=(0.0, 0.1), out=tmp_path).reused == 0
    with pytest.raises(BenchError, match="are not finite"):
        rb.certify(model, make_data(4), draws=30, radius=(0.0, 0.1))


REFUSED = [
    ("perturbations:\n  - certify: vote\n", "line 2: certificates are about noise on the image"),
    ("smoothing: 0.2\nperturbations:\n  - certify: single\n", "line 3: `rule` single has no certificate"),
    ("smoothing: 0.2\nperturbations:\n  - certify: vote\n    draw: 9\n", "line 4: unknown key 'draw'"),
    ("smoothing: 0.2\nperturbations:\n  - certify: vote\n    alpha: 1\n", "line 4: alpha"),
    ("smoothing: 0.2\nperturbations:\n  - certify: vote\n    draws: 1\n", "line 3: `draws` is 1"),
    ("smoothing: 0.2\nperturbations:\n  - {certify: vote, attack: pgd}\n", "one of the keys"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_certified_is_said_with_its_line(place, digits, text, message):
    """Suites without noise on the image, rules without a theorem, unknown keys and impossible numbers."""
    (place / "wrong.yaml").write_text(text)
    with pytest.raises(BenchError, match=message.replace("(", r"\(")):
        Suite.read("wrong.yaml").work([place / "none.safetensors"], digits)


def test_the_ray_engine_certifies_part_by_part(place, digits, monkeypatch):
    """Each missing part is a task of its own, whose certificates are those of this process.

    Tasks are run here in place of a cluster; `test_ray.py` has one.
    """
    ray_engine = pytest.importorskip("robustbench_sde.runs.cluster.ray")
    pytest.importorskip("ray")
    tasks, reports = [], []

    class Here:
        def __init__(self, ray, data, compute, engine):
            self.compute, self._data = compute, PackedImages.of(data)

        def workers(self):
            return 1

        def submit(self, shard, halved):
            paths = files_of(shard.cells)
            files = [np.frombuffer(path.read_bytes(), np.uint8) for path in paths]
            parcel = Parcel(
                shard.cells, shard.piece, paths, self.compute, 1, dict(halved), software(shard.cells)
            )
            tasks.append((shard.piece.start, shard.piece.stop))
            reports.append(parcel.run(self._data, *files))
            return len(reports) - 1

        def finished(self, running):
            return list(running)

        def result(self, task):
            return reports[task]

    monkeypatch.setattr(ray_engine, "_Cluster", Here)
    monkeypatch.setattr(ray_engine, "_connected", lambda address: contextlib.nullcontext(ray_engine._ray()))
    few = digits.subset(2 * PART + 1)
    smooth = Source.of(place / "additive.safetensors", few).smoothed(0.2)
    settings = CertifySettings(draws=40, select_draws=4, radii=(0.0, 0.1))
    work = Work.of([Cell(smooth, Clean(), ScoreSettings(2, "vote"))], few, [CertifyCell.of(smooth, settings)])
    local = run_cells(work, RunFolder(place / "local"))
    found = run_cells(work, RunFolder(place / "ray"), engine=ray_engine.RayEngine())
    assert tasks == [(0, len(few)), (0, PART), (PART, 2 * PART), (2 * PART, 2 * PART + 1)]
    assert found.certificates[0].certificates == local.certificates[0].certificates
    assert found.certificates[0].brackets == local.certificates[0].brackets
