"""Work is described once: keys, names, and how often files are read."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from builders import make_data, make_model, save_digits_model

import robustbench_sde as rb
from robustbench_sde.api.result import Result
from robustbench_sde.errors import BenchError, BenchWarning
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.base import Control
from robustbench_sde.perturbations.attacks.fmn import FastMinimumNorm
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.perturbations.corruptions.perturbation import Corrupted
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.runs import sources
from robustbench_sde.runs.cells import Cell, attack_cells
from robustbench_sde.runs.names import names_of_files, with_distinct_names
from robustbench_sde.runs.sources import LiveSource, Source
from robustbench_sde.runs.suite.suite import Suite
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.run_folder import RunFolder


@pytest.fixture
def counts(monkeypatch):
    """Count cell files read, checkpoints loaded and hashed, and keys computed."""
    found = Counter()

    def counted(name, call):
        def count(*arguments, **keywords):
            found[name] += 1
            return call(*arguments, **keywords)

        return count

    opened = pyarrow.parquet.ParquetFile.__init__

    def open_file(self, source, *arguments, **keywords):
        found["cell files"] += "records" in str(source)
        opened(self, source, *arguments, **keywords)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "__init__", open_file)
    monkeypatch.setattr(sources, "load_checkpoint", counted("loads", sources.load_checkpoint))
    monkeypatch.setattr(sources, "file_sha256", counted("hashes", sources.file_sha256))
    monkeypatch.setattr(Cell, "key", counted("keys", Cell.key))
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with one small checkpoint and a suite of three cells."""
    save_digits_model(tmp_path / "checkpoints" / "tiny.safetensors", "additive")
    (tmp_path / "small.yaml").write_text(
        "images: 6\nscore_draws: 2\nperturbations: [{attack: pgd, eps: [0.1], steps: 1, eot_draws: 1}]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "perturbation", "settings", "key"),
    [
        (Source("m", "sha256:0", kinds=()), Clean(), ScoreSettings(), "d2982f1b1016b29a"),
        (
            Source("m", "sha256:0", sigma=0.5, kinds=()),
            Control(make_attack("pgd", eps=0.03)),
            ScoreSettings(draws=8, rule="vote", seed=7),
            "c0d83f9720b7d247",
        ),
        (
            Source("m", "sha256:0", precision="bf16", solver="heun", solver_steps=4, kinds=()),
            make_attack("pgd", eps=0.03, steps=5),
            ScoreSettings(),
            "b1e65426c3ac88f7",  # of revision 2 of pgd
        ),
        (
            Source("m", "sha256:0", noise=False, kinds=()),
            Corrupted("fog", 3),
            ScoreSettings("auto"),
            "83770e869671b100",
        ),
    ],
)
def test_keys_are_those_of_earlier_versions(source, perturbation, settings, key):
    """Stored cells of earlier runs are found: another key would compute all of them again."""
    data = make_data(3)
    assert Cell(source, perturbation, settings).key(data) == key
    renamed = Source("other", source.sha256, Path("elsewhere"), *list(vars(source).values())[3:-1])
    assert Cell(renamed, perturbation, settings).key(data) == key
    random = Cell(replace(source, kinds=("additive",)), perturbation, settings)
    assert random.key(data) != key
    assert "noise definition 1" in random.earlier_keys(data)[key]


def test_a_stored_cell_is_read_once_and_has_one_key(place, counts):
    """A suite that is planned and run again reads each file of a cell once; so does an attack."""
    first = rb.run("small.yaml")
    assert (counts["cell files"], counts["keys"], len(first.summary)) == (0, 3, 3)
    counts.clear()
    assert rb.run("small.yaml").reused == 3
    assert (counts["cell files"], counts["keys"]) == (3, 3)
    counts.clear()
    data = rb.load_dataset("digits", images=6)
    asked = {"eps": 0.1, "steps": 1, "eot_draws": 1, "score_draws": 2, "out": "reports/small"}
    assert rb.attack("tiny", data, **asked).reused == 3
    assert (counts["cell files"], counts["keys"]) == (3, 3)


def test_tables_read_no_stored_cell_again(place, counts):
    """Tables of corruptions and of distances are made of records that the run or its plan has at hand."""
    Path("tables.yaml").write_text(
        "images: 6\nscore_draws: 2\nperturbations:\n"
        "- {corruption: fog, severity: [1, 5]}\n- {attack: fmn, norm: l2, steps: 2, eot_draws: 1}\n"
    )
    first = rb.run("tables.yaml")
    assert (counts["cell files"], len(first.summary)) == (0, 5)
    again = rb.run("tables.yaml")
    assert (counts["cell files"], again.reused) == (5, 5)
    folder = RunFolder(Path("reports/tables"))
    for run in (first, again):
        assert run.corruptions.equals(folder.read_corruptions())
    assert set(folder.read_distances()["perturbation"]) == {"fmn"}


@pytest.mark.parametrize("name", ["study/sigma", "study/solver"])
def test_a_checkpoint_is_opened_and_hashed_once(place, counts, digits, name):
    """The number of noises and solvers in a suite does not matter."""
    cells = Suite.read(name).cells([Path("checkpoints/tiny.safetensors")], digits)
    assert len({cell.source for cell in cells}) > 1
    assert (counts["loads"], counts["hashes"]) == (1, 1)


def test_cells_of_one_title_are_told_apart_in_the_plan(place):
    """A line of the plan names the settings in which a cell differs from another one of its title."""
    Path("several.yaml").write_text(
        "images: 6\nsigma: [null, 0.25]\nscore_draws: 2\n"
        "perturbations: [{attack: pgd, eps: 8/255, steps: 1, eot_draws: 1}]\n"
    )
    lines = [line.split(maxsplit=2)[2] for line in rb.run("several.yaml", dry_run=True).plan.lines()]
    assert len(set(lines)) == len(lines) == 6
    assert "tiny pgd linf 8/255 · sigma as trained" in lines
    assert "tiny pgd linf 8/255 · sigma 0.25" in lines


def stored_without(folder, column):
    """Store every cell again as a version that did not write `column`."""
    for path in (folder.path / "records").iterdir():
        label, _, key = path.stem.rpartition("-")
        row, records, _ = folder.read_cell(key)
        folder.write_cell(key, label, {name: row[name] for name in row if name != column}, records)


def test_the_plan_says_why_cells_of_an_earlier_version_are_computed_again(place):
    """A cell that lacks a column is told with its name, in the folder itself and in a run beside it."""
    rb.run("small.yaml")
    why = "stored by an earlier version, which did not write gradients_zero"
    stored_without(RunFolder(Path("reports/small")), "gradients_zero")
    for out in ("reports/small", "reports/other"):
        plan = rb.run("small.yaml", out=out, dry_run=True).plan
        # without gradients nothing was left uncounted: the clean row is good, and goes with its control
        together = "made again together with its control"
        assert [row["reason"] for row in plan.rows()] == [together, why, why]
        assert {row["state"] for row in plan.rows()} == {"to run"}
        assert str(plan).endswith(f"; computed again: 2 cells {why}; computed again: 1 cell {together}")
        assert plan.lines()[2].endswith(f"tiny pgd linf 0.1 ({why})")
    with pytest.raises(BenchError, match="did not write gradients_zero; run it again"):
        Result.read("reports/small")
    data = rb.load_dataset("digits", images=6)
    with pytest.warns(BenchWarning) as warned:
        run = rb.attack("tiny", data, eps=0.1, steps=1, eot_draws=1, score_draws=2, out="reports/small")
    reasons = [f"computed again: 2 cells {why}", f"computed again: 1 cell {together}"]
    assert [str(warning.message) for warning in warned] == reasons
    assert run.reused == 0  # the clean row and its control are made together
    assert rb.run("small.yaml").reused == 3


def test_the_plan_says_that_the_numbers_of_an_attack_have_changed(place, monkeypatch):
    """A cell of an earlier revision of its attack is found by the key that it had then."""
    suite = "images: 6\nscore_draws: 2\nperturbations: [{attack: fmn, norm: l2, steps: 2, eot_draws: 1}]\n"
    Path("small.yaml").write_text(suite)
    with monkeypatch.context() as then:
        then.setattr(FastMinimumNorm, "revision", 1)
        rb.run("small.yaml")
    (_, _, reason) = (row["reason"] for row in rb.run("small.yaml", dry_run=True).plan.rows())
    assert reason == "stored by an earlier version, whose fmn had other numbers"


def test_a_cell_that_disappears_after_the_plan_is_run_again(place):
    """The plan has read it, but a table may not point to a file that is not there."""
    rb.run("small.yaml")

    def delete(plan):
        next(Path("reports/small/records").glob("*pgd*")).unlink()

    run = rb.run("small.yaml", planned=delete)
    assert (run.reused, run.ok) == (2, True)
    assert len(run.records_of(2)) == 6


def test_equal_cells_are_work_once():
    """The order is that of the first; what is left keeps its keys."""
    one, two = (Cell(Source("m", "sha256:0"), Clean(), ScoreSettings(draws)) for draws in (1, 2))
    work = Work.of([two, one, two], make_data(3))
    assert work.cells == (two, one)
    assert work.without([two]).keys == {one: work.keys[one]}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("a/m.safetensors", "b/n.v2.safetensors"), ["m", "n.v2"]),
        (("a/m.safetensors", "b/m.safetensors", "b/n.safetensors"), ["a/m", "b/m", "n"]),
        (("x/a/m.safetensors", "y/a/m.safetensors"), ["x/a/m", "y/a/m"]),
        (("a/m.safetensors", "c/../a/m.safetensors"), ["m", "m"]),
    ],
)
def test_files_of_one_name_are_told_apart_by_their_folders(paths, names):
    """They get as many folders as are needed; one file has one name, however its path is written."""
    assert list(names_of_files([Path(path) for path in paths]).values()) == names


def test_classifiers_in_memory_of_one_name_are_numbered():
    """A file keeps its name; equal sources are one."""
    live = [Source("m", sha256) for sha256 in ("live:1", "live:2", "live:1")]
    named = with_distinct_names([*live, Source("m", "sha256:0", Path("a/m.safetensors"))])
    assert [source.name for source in named] == ["m 2", "m 3", "m"]


def test_two_checkpoints_of_one_name_have_rows_of_their_own(place):
    """Tables and manifest tell two checkpoints of one name apart, and either order compares as equal."""
    for folder, kind in (("a", "additive"), ("b", "none")):
        save_digits_model(place / folder / "m.safetensors", kind)
    data = rb.load_dataset("digits", images=6)
    models = ["a/m.safetensors", "b/m.safetensors"]
    small = {"eps": 0.1, "steps": 1, "eot_draws": 1, "score_draws": 2}
    one = rb.attack(models, data, **small, out="ab")
    other = rb.attack(models[::-1], data, **small, out="ba")
    assert one.summary["checkpoint"].unique().tolist() == ["a/m", "b/m"]
    hashes = RunFolder(Path("ab")).read_manifest()["checkpoints"]
    assert set(hashes) == {"a/m", "b/m"}
    assert len(set(hashes.values())) == 2
    changes = [change for cell in rb.compare(one, other).cells for change in cell.changes]
    assert changes
    assert all(change.drop.estimate == 0 for change in changes)
    held = rb.attack(models, data, **small)
    assert held.summary["checkpoint"].unique().tolist() == ["a/m", "b/m"]
    suite = rb.run("small.yaml", models)
    assert suite.summary["checkpoint"].unique().tolist() == ["a/m", "b/m"]
    assert set(suite.checkpoints) == {"a/m", "b/m"}
    corrupted = rb.score(models, data, corruptions="fog", severities=[1], score_draws=2, reference=models[1])
    assert corrupted.corruptions is not None
    assert set(corrupted.corruptions["checkpoint"]) == {"a/m", "b/m"}
    own = corrupted.corruptions.query("checkpoint == 'b/m' and corruption == 'fog'")
    assert own["ce"].tolist() == [1]
    followed = rb.stability(models, data, paths=2, steps=1, eot_draws=1, score_draws=2, out="stable")
    assert [report.checkpoint for report in followed.reports] == ["a/m", "b/m"]
    assert rb.stability(models, data, paths=2, steps=1, eot_draws=1, score_draws=2, out="stable").reused == 2


def test_tables_do_not_depend_on_who_writes_them(place):
    """A run writes `summary.md` and `distances.csv` without drawing anything; its report writes the same."""
    data = rb.load_dataset("digits", images=6)
    attacks = {"pgd": {"steps": 1, "eot_draws": 1}, "cw": {"steps": 2, "binary_search_steps": 1}}
    rb.attack("tiny", data, attacks, norm="linf", eps=0.1, score_draws=2, out="run")
    folder = Path("run")
    assert not (folder / "figures").exists()
    written = {name: (folder / name).read_bytes() for name in ("summary.md", "distances.csv")}
    heading = written["summary.md"].decode().splitlines()[2]
    assert heading.startswith("| checkpoint | perturbation | accuracy (95 %) |")
    assert written["distances.csv"].startswith(b"checkpoint,perturbation,norm,images,distance,accuracy")
    assert (folder / "distances.csv").read_text().count("tiny,cw,l2,6,") >= 1
    files = [path.name for path in write_report(RunFolder(folder), RunFolder(Path("page")))]
    assert {"summary.md", "distances.csv"} <= set(files)
    assert {name: (Path("page") / name).read_bytes() for name in written} == written
    rb.attack("tiny", data, eps=0.1, steps=1, eot_draws=1, score_draws=2, out="plain")
    assert not Path("plain/distances.csv").exists()


@pytest.mark.parametrize(
    ("eps", "title"), [(8 / 255, "8/255"), (0.03, "0.03"), (4.5 / 255, "0.0176471"), (0.5, "0.5")]
)
def test_progress_names_a_budget_as_it_is_typed(eps, title):
    """Grey levels stay grey levels; names of files do not change."""
    attack = make_attack("pgd", norm="linf", eps=eps)
    (cell,) = attack_cells(LiveSource.around(make_model()), [attack], ScoreSettings(1))[2:]
    assert cell.title.endswith(f" pgd linf {title}")
    assert f"eps={eps:g}" in cell.label
