"""A run folder that was changed is noticed by everything that reads it."""

import shutil

import numpy as np
import pandas as pd
import pytest
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.api.result import Result
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.cell import numbers_of
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.storage.records import check_records, digest_of
from robustbench_sde.storage.run_folder import RunFolder


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
    row, records = run.read_cell(key)
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
    "no share": (lambda folder: edit_records(folder, share_correct=np.nan), "has a share_correct outside"),
}


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
    row, records = run.read_cell(key)
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
