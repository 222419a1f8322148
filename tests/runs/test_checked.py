"""A run folder that was changed is noticed by everything that reads it."""

import shutil

import numpy as np
import pandas as pd
import pytest
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.api.result import Result
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.numbers import numbers_of
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.runs import checked_corruptions
from robustbench_sde.runs.checked import read_checked_summary, read_checked_summary_so_far
from robustbench_sde.runs.checked_corruptions import read_checked_corruptions
from robustbench_sde.storage.records import check_records, digest_of
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.runs_here import runs_here


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of clean, control and pgd."""
    out = tmp_path_factory.mktemp("made") / "run"
    rb.attack(make_model(), make_data(), eps=0.1, steps=1, eot_draws=1, score_draws=4, out=out)
    return out


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "run")


def edit_summary(folder, **changes):
    """Write other values into the row of pgd."""
    summary = pd.read_parquet(folder / "summary.parquet")
    summary.loc[summary["perturbation"] == "pgd", list(changes)] = list(changes.values())
    summary.to_parquet(folder / "summary.parquet", index=False)


def edit_records(folder, **changes):
    """Store pgd's cell again with other values of image 3, and a row that follows from them."""
    run = RunFolder(folder)
    key = run.read_summary()["cell"].iloc[2]
    row, records, _ = run.read_cell(key)
    records = records.copy()
    records.loc[3, list(changes)] = list(changes.values())
    path = next(folder.glob(f"records/*{key}*"))
    run.write_cell(key, path.stem.removesuffix(f"-{key}"), row | numbers_of(records, "linf", 0.1), records)


def swap(folder):
    """Put the file of the clean cell in the place of pgd's."""
    clean, pgd = (next(folder.glob(f"records/*_{name}*")) for name in ("clean", "pgd"))
    shutil.copyfile(clean, pgd)


def strip(folder):
    """Write the records of pgd without metadata, as pandas does."""
    pgd = next(folder.glob("records/*_pgd*"))
    pd.read_parquet(pgd).to_parquet(pgd, index=False)


FAULTS = {
    "swapped files": (swap, "it holds the records of another cell"),
    "records without metadata": (strip, "its metadata lack"),
    "an accuracy in the summary": (
        lambda folder: edit_summary(folder, accuracy=0.99),
        "accuracy is 0.99",
    ),
    "an interval in the summary": (
        lambda folder: edit_summary(folder, single_draw_low=0.97),
        "single_draw_low is 0.97, and ",
    ),
    "a budget in the summary": (lambda folder: edit_summary(folder, eps=0.5), "eps is 0.5, and 0.1 by"),
    "the name of the attack": (
        lambda folder: edit_summary(folder, perturbation="auto"),
        "perturbation is auto, and pgd by",
    ),
    "an image twice": (lambda folder: edit_records(folder, image_id=2), "image 2 is there twice"),
    "a wrong correct": (
        lambda folder: edit_records(folder, correct=True, prediction=0, label=1),
        "is correct, or not, against its prediction",
    ),
    "a wrong margin": (
        lambda folder: edit_records(folder, correct=True, prediction=1, label=1, margin=-0.1),
        "is correct, or not, against its margin",
    ),
    "a share of 7": (
        lambda folder: edit_records(folder, share_correct=7.0),
        "a share_correct outside of 0",
    ),
    "more answers than draws": (
        lambda folder: edit_records(folder, tries=9.0),
        "has more answers than score draws",
    ),
    "no share": (lambda folder: edit_records(folder, share_correct=np.nan), "has a share_correct outside"),
}


def edit_manifest(folder, change):
    """Change the list of cells in the manifest."""
    run = RunFolder(folder)
    manifest = run.read_manifest()
    change(manifest["cells"])
    run.write_manifest(manifest)


def rows_of(change):
    """Return an edit of the rows of the summary."""

    def edit(folder):
        summary = pd.read_parquet(folder / "summary.parquet")
        change(summary).to_parquet(folder / "summary.parquet", index=False)

    return edit


FAULTS |= {
    "a row that is gone": (rows_of(lambda summary: summary[:-1]), "1 cell of the manifest are missing"),
    "a row twice": (
        rows_of(lambda summary: pd.concat([summary, summary[-1:]], ignore_index=True)),
        "is there twice",
    ),
    "another checkpoint": (
        rows_of(lambda summary: summary.assign(checkpoint="better")),
        "the checkpoint of row .* is better, and tiny-multiplicative by the manifest",
    ),
    "a cell that nobody ran": (
        lambda folder: edit_manifest(folder, lambda cells: cells.pop()),
        "is no cell of the manifest",
    ),
    "a verdict in the summary": (
        lambda folder: make_suspect(folder, said="suspect: gradients"),
        "status is ok, and suspect: gradients by its stored cell",
    ),
    "a verdict in the cell": (
        lambda folder: make_suspect(folder, said="ok"),
        "status is ok, and suspect: gradients of 100% .* by its records",
    ),
}


def make_suspect(folder, said):
    """Store pgd's cell with gradients that are zero, and an opinion on them; the summary says ok."""
    run = RunFolder(folder)
    key = run.read_summary()["cell"].iloc[2]
    row, records, _ = run.read_cell(key)
    records = records.assign(gradients_zero=1.0)
    found = numbers_of(records, "linf", 0.1)
    path = next(folder.glob(f"records/*{key}*"))
    run.write_cell(key, path.stem.removesuffix(f"-{key}"), row | found | {"status": said}, records)
    edit_summary(folder, gradients_zero=1.0)


def test_a_running_run_is_checked_as_well(folder):
    """Rows of a run that has not finished must follow from the records of their cells."""
    edit = RunFolder(folder)
    assert len(read_checked_summary_so_far(edit)) == 3
    key = edit.read_summary()["cell"].iloc[2]
    row, records, _ = edit.read_cell(key)
    path = next(folder.glob(f"records/*{key}*"))
    edit.write_cell(key, path.stem.removesuffix(f"-{key}"), row | {"accuracy": 0.99}, records)
    with pytest.raises(BenchError, match=r"accuracy is 0\.99, and "):
        read_checked_summary_so_far(edit)


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_list_of_runs_shows_no_number_that_was_changed(made, tmp_path, monkeypatch, fault):
    """The lowest accuracy is one that the stored cells have, or the run is `damaged` and has none."""
    monkeypatch.chdir(tmp_path)
    lowest = pd.read_parquet(made / "summary.parquet")["accuracy"].min()
    shutil.copytree(made, tmp_path / "reports" / "run")
    if fault is not None:
        FAULTS[fault][0](tmp_path / "reports" / "run")
    (found,) = runs_here()
    assert (found.state, found.lowest) in [("complete", lowest), ("damaged", None)]
    if fault in (None, "an accuracy in the summary", "swapped files"):
        assert found.state == ("complete" if fault is None else "damaged")


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory):
    """A run of two corruptions at two severities, with a reference."""
    out = tmp_path_factory.mktemp("corrupted") / "run"
    models = [make_model(), make_model("none")]
    asked = {"corruptions": "fog,contrast", "severities": [1, 2], "score_draws": 2}
    rb.score(models, make_data(), **asked, reference=models[1], out=out)
    return out


@pytest.mark.parametrize("column", [None, "accuracy", "ce", "relative_high", "ece", "checkpoint", "status"])
def test_an_edited_table_of_corruptions_is_noticed(corrupted, tmp_path, column):
    """Every number of `corruptions.csv` follows from the records, mCE from those of its reference."""
    folder = shutil.copytree(corrupted, tmp_path / "run")
    assert Result.read(folder).corruptions is not None
    if column is None:
        return
    frame = pd.read_csv(folder / "corruptions.csv", keep_default_na=False, na_values=[""])
    frame.loc[2, column] = "nobody" if frame[column].dtype == "str" else 0.123
    frame.to_csv(folder / "corruptions.csv", index=False)
    for read in (Result.read, lambda run: write_report(RunFolder(run), RunFolder(tmp_path / "page"))):
        with pytest.raises(BenchError, match=r"corruptions.csv does not follow from the records"):
            read(folder)


def test_an_untouched_table_of_corruptions_is_not_made_anew(corrupted, tmp_path, monkeypatch):
    """It takes seconds for thousands of cells; after a change of a cell it is compared with the records."""
    folder = shutil.copytree(corrupted, tmp_path / "run")
    monkeypatch.setattr(checked_corruptions, "_measured", lambda *_: pytest.fail("it makes the table anew"))
    run = RunFolder(folder)
    assert read_checked_corruptions(run, run.read_summary()) is not None
    path = next(folder.glob("records/*fog*"))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(pytest.fail.Exception, match="anew"):
        read_checked_corruptions(RunFolder(folder), run.read_summary())


@pytest.mark.parametrize("fault", FAULTS)
def test_every_reader_notices_a_change(folder, made, fault, tmp_path):
    """`compare`, `report`, `save_baseline` and `Result.read`, which `show` equals, say it in one line."""
    change, message = FAULTS[fault]
    change(folder)
    readers = {
        "compare": lambda: rb.compare(made, folder),
        "report": lambda: write_report(RunFolder(folder), RunFolder(tmp_path / "page")),
        "baseline": lambda: Result(pd.DataFrame(), folder).save_baseline(tmp_path / "baseline.json"),
        "read": lambda: Result.read(folder),
    }
    for name, read in readers.items():
        with pytest.raises(BenchError, match=message) as raised:
            read()
        assert "\n" not in str(raised.value), name
    assert not (tmp_path / "baseline.json").exists()


def test_an_untouched_run_is_read(made, tmp_path):
    """Also one whose cells were stored before digests were written."""
    assert Result.read(made).ok
    assert rb.compare(made, made).exit_code in (0, 3)


@pytest.mark.parametrize("column", ["accuracy", "single_draw_accuracy", "noise_low", "ece", "forward_passes"])
def test_a_run_does_not_go_on_from_a_row_that_was_changed(folder, column):
    """Not its accuracy alone: every number of a stored row is computed again from the records."""
    run = RunFolder(folder)
    key = run.read_summary()["cell"].iloc[0]
    row, records, _ = run.read_cell(key)
    path = next(folder.glob(f"records/*{key}*"))
    run.write_cell(key, path.stem.removesuffix(f"-{key}"), row | {column: 0.123}, records)
    with pytest.raises(BenchError, match=f"is damaged \\({column} is 0.123, and .* by its records"):
        rb.attack(make_model(), make_data(), eps=0.1, steps=1, eot_draws=1, score_draws=4, out=folder)


def test_a_digest_is_of_every_value(made):
    """A change of any column, or of the order, is another digest."""
    run = RunFolder(made)
    records = run.read_records(run.read_summary()["cell"].iloc[2])
    check_records(records)
    assert digest_of(records) == digest_of(records.copy())
    others = {digest_of(records.iloc[::-1])}
    for name in records.columns:
        value = "other" if records[name].dtype.kind not in "ifb" else records[name].iloc[0] + 1
        value = 0.0 if value != value else value  # nobody was aimed at
        changed = records.assign(**{name: records[name].where(records.index > 0, value)})
        others.add(digest_of(changed.astype(records.dtypes)) if name != "correct" else digest_of(changed))
    assert len(others | {digest_of(records)}) == len(records.columns) + 2


def test_what_is_as_it_was_written_is_not_checked_once_more(folder, monkeypatch):
    """Showing a run reads no records; changed files and rows, and tables that say nothing, are checked."""
    run = RunFolder(folder)
    cells = set(run.read_summary()["cell"])
    assert run.unchanged_cells() == cells
    key = run.read_summary()["cell"].iloc[2]
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "read_cell", lambda *_: pytest.fail("it reads records"))
        assert len(read_checked_summary(run)) == 3
    path = next(folder.glob(f"records/*{key}*"))
    whole, names = path.read_bytes(), ("correct", "tries_split")
    expected = {name: values.tolist() for name, values in run.read_records(key)[[*names]].items()}
    found = run.read_unchanged_columns(key, names)
    assert {name: values.tolist() for name, values in found.items()} == expected
    path.write_bytes(whole + b" ")
    changed = RunFolder(folder)
    assert changed.unchanged_cells() == cells - {key}
    assert changed.read_unchanged_columns(key, names) is None
    path.write_bytes(whole)
    summary = pd.read_parquet(folder / "summary.parquet")
    summary.assign(accuracy=0.5).to_parquet(folder / "summary.parquet", index=False)
    assert RunFolder(folder).unchanged_cells() == set()
    with pytest.raises(BenchError, match="accuracy"):
        read_checked_summary(RunFolder(folder))
