"""Runs of versions that wrote fewer columns are read, gone on with and compared."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import make_data, make_model

import robustbench_sde as rb
from robustbench_sde.api.result import Result
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.bounds import survives
from robustbench_sde.evaluation.numbers import numbers_of
from robustbench_sde.reporting.html.page import write_report
from robustbench_sde.runs.checked import check_stored, completed
from robustbench_sde.storage.cell_file import StoredCell
from robustbench_sde.storage.records import digest_of
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import RECORDS, SUMMARY

NEW = [column.name for column in SUMMARY if column.name.startswith(("survives_", "try_draws"))]
NEW_RECORDS = [
    name for name in (column.name for column in RECORDS) if name.startswith(("share_l", "share_h", "tries"))
]


def attack(out):
    return rb.attack(make_model(), make_data(), eps=0.1, steps=1, eot_draws=1, score_draws=12, out=out)


def as_before(folder):
    """Take the columns away that earlier versions did not write, from every file, as they wrote them."""
    for path in (folder / "records").iterdir():
        arrow = pq.read_table(path)
        row = json.loads(arrow.schema.metadata[b"sde-bench"])
        records = arrow.to_pandas().drop(columns=NEW_RECORDS)
        plain = pa.Table.from_pandas(records, preserve_index=False)
        old = {name: value for name, value in row.items() if name not in NEW}
        own = {b"sde-bench": json.dumps(old), b"sde-bench-records": digest_of(records)}
        pq.write_table(plain.replace_schema_metadata({**plain.schema.metadata, **own}), path)
    summary = pd.read_parquet(folder / "summary.parquet").drop(columns=NEW)
    summary.to_parquet(folder / "summary.parquet", index=False)


@pytest.fixture
def pair(tmp_path):
    """A run of today, and the same one as an earlier version wrote it."""
    today, before = attack(tmp_path / "today"), tmp_path / "before"
    attack(before)
    as_before(before)
    return today, before


def test_the_summary_of_an_earlier_run_has_the_columns(pair):
    """Columns that follow from records are filled in, from draws that were independent; no other differs."""
    today, before = pair
    assert "survives_2" not in pd.read_parquet(before / "summary.parquet")
    found = Result.read(before)
    of_pairs = [name for name in found.summary if name.startswith("survives_")]
    pd.testing.assert_frame_equal(
        found.summary.drop(columns=["seconds", *of_pairs]), today.summary.drop(columns=["seconds", *of_pairs])
    )
    right = np.rint(12 * found.records_of(2)["share_correct"].to_numpy()).astype(np.int64)
    assert found.survives(10, 2).estimate == survives(right, np.full(len(right), 12), 10).mean()
    assert found.summary["survives_10"].iloc[2] == found.survives(10, 2).estimate
    assert found.records_of(2)["tries"].isna().all()


def test_an_earlier_run_is_gone_on_with_compared_and_reported(pair):
    """No cell is computed again, and the gate and the page take it."""
    today, before = pair
    assert rb.compare(before, today.folder, max_drop=0.5).exit_code == 0
    again = attack(before)
    assert again.reused == len(again.summary) == 3
    found = Result.read(before).summary["survives_10"]
    np.testing.assert_array_equal(again.summary["survives_10"], found)
    assert found.notna().all()
    page = write_report(RunFolder(before), RunFolder(before))[-1]
    assert "Accuracy against tries" in page.read_text()


def test_a_changed_number_is_still_noticed(pair):
    """A share of survivors that does not follow from the records is an error, in a run of today."""
    today, _ = pair
    path = today.folder / "summary.parquet"
    pd.read_parquet(path).assign(survives_2=0.99).to_parquet(path, index=False)
    with pytest.raises(BenchError, match=r"survives_2 is 0\.99"):
        Result.read(today.folder)


def test_any_later_column_that_follows_from_records_is_filled_in():
    """A new number needs no list of its own: a cell without it is whole, and gets it from its records."""
    result = attack(None)
    row = result.summary.iloc[2].to_dict()
    records = result.records_of(2)
    unknown = [column.name for column in SUMMARY if column.later and np.isnan(column.old)]
    counted = [name for name in unknown if not np.isnan(float(row[name]))]
    assert {"gradients_zero", "survives_2"} < set(counted)
    stored = StoredCell(row | dict.fromkeys(counted, float("nan")), records)
    check_stored(stored)
    follows = set(counted) & numbers_of(records, row["norm"], row["eps"]).keys()
    assert {name: completed(stored).row[name] for name in follows} == {name: row[name] for name in follows}
