"""The engine: what is run, what is taken over, what happens when something goes wrong."""

from dataclasses import dataclass, replace

import pandas as pd
import pytest
import torch
from builders import save_digits_model

from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.attacks.registry import make_attack
from robustbench_sde.perturbations.base import Clean, Perturbation, Perturbed
from robustbench_sde.progress import Bars
from robustbench_sde.runs.cells import Cell, attack_cells
from robustbench_sde.runs.engine import LocalEngine
from robustbench_sde.runs.run import run_cells
from robustbench_sde.runs.sources import Source
from robustbench_sde.runs.work import Work
from robustbench_sde.storage.lock import locked
from robustbench_sde.storage.run_folder import RunFolder

SETTINGS = ScoreSettings(draws=3)


@dataclass(frozen=True)
class Odd(Perturbation):
    """Leaves images alone, or does what is wrong with it."""

    name = "odd"

    fault: str = ""

    @property
    def label(self):
        return f"odd-{self.fault}"

    def _perturb(self, model, batch, *, seed, rows):
        if self.fault == "bug":
            {}["missing"]
        if self.fault == "input":
            raise BenchError("it takes no such images")
        if self.fault == "nan":
            return Perturbed.free(batch.images * float("nan"))
        if self.fault == "memory" and len(batch) > 2:
            torch.empty(2**60)
        if self.fault == "always":
            torch.empty(2**60)
        if self.fault == "interrupt":
            raise KeyboardInterrupt
        return Perturbed.free(batch.images)


@pytest.fixture(scope="module")
def data(digits):
    return digits.subset(10)


@pytest.fixture(scope="module")
def source(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    return Source.of(save_digits_model(path, "additive"), data)


def cells_of(source, *perturbations):
    return [Cell(source, perturbation, SETTINGS) for perturbation in perturbations]


def statuses(run):
    return dict(zip(run.summary["perturbation"], run.summary["status"], strict=True))


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("bug", "failed: KeyError: 'missing' (test_engine.py, line "),
        ("input", "failed: it takes no such images"),
        ("nan", "invalid: 10 of 10 perturbed images are invalid: image "),
        ("always", "failed: RuntimeError: "),
    ],
)
def test_a_cell_that_fails_does_not_stop_the_others(tmp_path, data, source, fault, status):
    """A failed cell's row says why; it is not stored, and the next run tries it alone again."""
    folder = RunFolder(tmp_path / "run")
    cells = cells_of(source, Clean(), Odd(fault), Odd())
    run = run_cells(Work.of(cells, data), folder)
    assert statuses(run)["odd-" + fault].startswith(status)
    assert "\n" not in statuses(run)["odd-" + fault]
    assert statuses(run)["clean"] == statuses(run)["odd-"] == "ok"
    assert run.summary["accuracy"].isna().tolist() == [False, True, False]
    assert run.summary["sigma"].tolist() == [pytest.approx(0.8)] * 3
    assert len(list(folder.path.glob("records/*"))) == len(list(folder.path.glob("examples/*"))) == 2
    again = run_cells(Work.of(cells, data), folder)
    assert again.reused == 2
    assert statuses(again) == statuses(run)


def test_a_checkpoint_that_has_changed_fails_its_cells(tmp_path, data, source):
    """The numbers of another file are never stored under the old one's key."""
    other = Source.of(save_digits_model(tmp_path / "other.safetensors", "none"), data)
    save_digits_model(tmp_path / "other.safetensors", "additive")
    cells = [*cells_of(other, Clean()), *cells_of(source, Clean())]
    run = run_cells(Work.of(cells, data), RunFolder(tmp_path / "run"))
    changed, sound = run.summary.to_dict("records")
    assert "other.safetensors has changed since the run began" in changed["status"]
    assert (changed["checkpoint"], sound["status"]) == ("other", "ok")


def test_where_memory_does_not_suffice_the_batch_is_halved(tmp_path, data, source):
    """Down to what fits, with the same numbers, and the manifest says so."""
    folder = RunFolder(tmp_path / "run")
    settings = replace(SETTINGS, rows=16)
    run = run_cells(Work.of([Cell(source, Odd("memory"), settings)], data), folder)
    assert statuses(run) == {"odd-memory": "ok"}
    assert folder.read_manifest()["batch_size"] == {"asked": 16, "perturbing": 2}
    plain = run_cells(Work.of([Cell(source, Odd(), settings)], data), RunFolder(tmp_path / "plain"))
    assert run.summary["accuracy"].tolist() == plain.summary["accuracy"].tolist()


def test_scorings_of_the_same_images_perturb_once(tmp_path, data, source):
    """Draws and rules are scored on the images that are there; another seed makes its own."""

    @dataclass(frozen=True)
    class Counted(Odd):
        calls = []  # noqa: RUF012

        def _perturb(self, model, batch, *, seed, rows):
            self.calls.append(seed)
            return super()._perturb(model, batch, seed=seed, rows=rows)

    grid = [
        ScoreSettings(draws, rule, seed) for seed in (0, 1) for draws in (2, 5) for rule in ("vote", "single")
    ]
    run = run_cells(
        Work.of([Cell(source, Counted(), settings) for settings in grid], data), RunFolder(tmp_path / "run")
    )
    assert Counted.calls == [0, 1]
    alone = run_cells(Work.of([Cell(source, Odd(), grid[-1])], data), RunFolder(tmp_path / "alone"))
    numbers = ["accuracy", "single_draw_accuracy", "brier"]
    pd.testing.assert_series_equal(
        run.summary[numbers].iloc[-1], alone.summary[numbers].iloc[0], check_names=False
    )
    assert run.summary["seed"].tolist() == [0] * 4 + [1] * 4


def test_the_first_images_are_kept_to_look_at(tmp_path, data, source):
    """Eight of them, clean and perturbed, with ids and labels."""
    folder = RunFolder(tmp_path / "run")
    cells = attack_cells(source, [make_attack("noise", eps=0.1)], SETTINGS)
    run_cells(Work.of(cells, data), folder)
    examples = folder.read_examples(cells[2].key(data))
    assert examples is not None
    assert examples.ids.tolist() == data.ids[:8].tolist()
    assert examples.labels.tolist() == data.labels[:8].tolist()
    assert (examples.clean == data.images[:8].numpy().astype("float32") / 255).all()
    assert 0.05 < abs(examples.perturbed - examples.clean).max() <= 0.1 + 1e-6


def test_equal_cells_of_another_run_are_taken_over(tmp_path, data, source):
    """Equal cells are copied with their examples if the cache is on; else they are run."""
    cells = cells_of(source, Clean(), Odd())
    first = run_cells(Work.of(cells, data), RunFolder(tmp_path / "first"))
    assert run_cells(Work.of(cells, data), RunFolder(tmp_path / "refused"), cache=False).reused == 0
    folder = RunFolder(tmp_path / "second")
    second = run_cells(
        Work.of([*cells, Cell(source, Odd(), ScoreSettings(draws=2))], data), folder, cache=True
    )
    assert second.reused == 2
    pd.testing.assert_frame_equal(second.summary.iloc[:2], first.summary)
    for cell in cells:
        key = cell.key(data)
        pd.testing.assert_frame_equal(folder.read_records(key), first.folder.read_records(key))
        assert folder.read_examples(key) is not None
    assert run_cells(Work.of(cells, data), RunFolder(tmp_path / "else" / "third"), cache=True).reused == 0


def test_damage_elsewhere_is_passed_over(tmp_path, data, source):
    """A cell that is damaged in the other run is computed."""
    cells = cells_of(source, Clean(), Odd())
    first = run_cells(Work.of(cells, data), RunFolder(tmp_path / "first"))
    victim = next(first.folder.path.glob("records/*clean*"))
    victim.write_bytes(victim.read_bytes()[:-20])
    second = run_cells(Work.of(cells, data), RunFolder(tmp_path / "second"), cache=True)
    assert (second.reused, statuses(second)) == (1, {"clean": "ok", "odd-": "ok"})


def test_a_renamed_checkpoint_is_the_same_work_under_its_new_name(tmp_path, data, source):
    """The key is made of contents; tables show the name of now."""
    run_cells(Work.of(cells_of(source, Clean()), data), RunFolder(tmp_path / "run"))
    (tmp_path / "renamed.safetensors").write_bytes(source.path.read_bytes())
    renamed = Source.of(tmp_path / "renamed.safetensors", data)
    run = run_cells(Work.of(cells_of(renamed, Clean()), data), RunFolder(tmp_path / "run"))
    assert (run.reused, run.summary["checkpoint"].tolist()) == (1, ["renamed"])


def test_a_second_process_is_refused(tmp_path, data, source):
    """One line while the lock is held; afterwards the run goes on, and no lock stays."""
    folder = RunFolder(tmp_path / "run")
    with locked(folder.path), pytest.raises(BenchError, match="another process is running in"):
        run_cells(Work.of(cells_of(source, Clean()), data), folder)
    run_cells(Work.of(cells_of(source, Clean()), data), folder)
    assert not (folder.path / ".lock").exists()


def test_what_a_killed_process_was_writing_is_removed(tmp_path, data, source):
    """Half-written files are never taken for cells, and do not stay."""
    folder = RunFolder(tmp_path / "run")
    cells = cells_of(source, Clean(), Odd())
    run_cells(Work.of(cells[:1], data), folder)
    whole = next(folder.path.glob("records/*.parquet"))
    half = whole.with_name(f".odd-{cells[1].key(data)}.parquet.4194305.tmp")
    half.write_bytes(whole.read_bytes()[:200])
    (folder.path / ".summary.csv.4194305.tmp").touch()
    assert statuses(run_cells(Work.of(cells, data), folder)) == {"clean": "ok", "odd-": "ok"}
    assert not list(folder.path.rglob("*.tmp"))


def test_an_interrupted_run_leaves_the_tables_of_what_it_has(tmp_path, data, source):
    """Also of cells that an earlier run has stored, whatever their order."""
    folder = RunFolder(tmp_path / "run")
    last = cells_of(source, Odd())
    run_cells(Work.of(last, data), folder)
    with pytest.raises(KeyboardInterrupt):
        run_cells(Work.of(cells_of(source, Clean(), Odd("interrupt"), Odd()), data), folder)
    assert folder.read_summary()["perturbation"].tolist() == ["clean", "odd-"]
    assert folder.read_manifest()["complete"] is False


def test_a_control_that_differs_marks_the_rows_of_its_checkpoint(tmp_path, data, source):
    """A differing control marks the rows of its checkpoint, also with several seeds and when resumed."""
    other = Source.of(save_digits_model(tmp_path / "other.safetensors", "none"), data)
    attack = make_attack("pgd", eps=0.1, steps=1, eot_draws=1)
    grid = [ScoreSettings(3, seed=seed) for seed in (0, 1)]
    cells = [cell for own in (source, other) for s in grid for cell in attack_cells(own, [attack], s)]

    class Tampering(LocalEngine):
        def run(self, *arguments):
            for cell, result in super().run(*arguments):
                if cell == cells[4]:  # the control of the second seed
                    result.records.loc[3, "label_probability"] += 1e-6
                yield cell, result

    for _ in range(2):
        summary = run_cells(Work.of(cells, data), RunFolder(tmp_path / "run"), engine=Tampering()).summary
        status = summary.groupby("checkpoint")["status"].unique()
        assert status["other"].tolist() == ["ok"]
        assert [text.startswith("invalid: the eps = 0 control differs") for text in status["tiny"]] == [True]


def test_clean_and_controls_that_were_stored_apart_are_made_together(tmp_path, data, source):
    """Other batches round otherwise: a stored clean row and a new control would call honest runs invalid."""
    first, second = (make_attack("pgd", eps=0.1, steps=steps, eot_draws=1) for steps in (1, 2))
    folder = RunFolder(tmp_path / "run")
    cells = attack_cells(source, [first], SETTINGS)
    run_cells(Work.of(cells, data), folder)
    clean = cells[0].key(data)
    for cell in cells[:2]:  # as if on another machine
        records = folder.read_records(cell.key(data))
        records["label_probability"] += 1e-6
        folder.write_cell(cell.key(data), cell.label, folder.read_cell(cell.key(data)).row, records)
    assert run_cells(Work.of(cells, data), folder).reused == 3
    elsewhere = folder.read_records(clean)
    more = run_cells(Work.of(attack_cells(source, [second], SETTINGS), data), folder, replace=True)
    assert (more.reused, set(more.summary["status"])) == (0, {"ok"})
    assert not folder.read_records(clean).equals(elsewhere)
    # its own control is of the other machine, its clean row is not
    again = run_cells(Work.of(cells, data), folder, replace=True)
    assert (again.reused, set(again.summary["status"])) == (1, {"ok"})


def test_two_bars_tell_of_cells_and_images(tmp_path, data, source):
    """Cells that are stored count at once; images count while perturbing and while scoring."""

    class Bar:
        def __init__(self):
            self.told = []

        def start(self, description, total):
            self.told.append((description, total, 0))

        def advance(self, amount=1, note=""):
            description, total, done = self.told[-1]
            self.told[-1] = (description, total, done + amount)

    folder = RunFolder(tmp_path / "run")
    run_cells(Work.of(cells_of(source, Clean()), data), folder)
    cells, images = Bar(), Bar()
    run_cells(Work.of(cells_of(source, Clean(), Odd()), data), folder, bars=Bars(cells, images))
    assert cells.told == [("cells", 2, 2)]
    assert images.told == [("tiny odd-", 10, 10), ("tiny odd- · scoring", 10, 10)]
