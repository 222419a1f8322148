"""Targeted attacks say how many images end in the target."""

import io
import math

import pytest
from rich.console import Console

import robustbench_sde as rb
from robustbench_sde.errors import BenchError
from robustbench_sde.evaluation.statistics import wilson
from robustbench_sde.reporting.terminal import summary_table
from robustbench_sde.runs.words import summary_columns
from robustbench_sde.storage.records import check_records

HOW = {"norm": "linf", "eps": 0.06, "steps": 5, "score_draws": 1}


@pytest.fixture(scope="module")
def data():
    return rb.load_dataset("digits", images=60)


def test_success_is_the_share_of_other_images_that_end_in_the_target(ode, data):
    """Images of class 3 are left out and counted; share and interval are those of the records."""
    result = rb.attack(ode, data, "pgd", target=3, **HOW)
    row, records = result.summary.iloc[-1], result.records
    others = records[records["label"] != 3]
    assert 0 < len(others) < len(records)
    assert row["target_images"] == len(others)
    share = float((others["prediction"] == 3).mean())
    assert 0 < share < 1
    found = row[["target_success", "target_low", "target_high"]].tolist()
    assert found == pytest.approx(list(wilson(share, len(others))))
    assert (records["target"] == 3).all()
    assert result.summary.loc[:1, "target_images"].isna().all()  # clean and the control


@pytest.mark.parametrize("target", ["random", "least-likely"])
def test_targets_of_every_kind_are_recorded(ode, data, target):
    """Each image has its own target; with adaptive draws, restarts and images without gradients as well."""
    first = rb.attack(ode, data, "pgd", target=target, **HOW)
    again = rb.attack(ode, data, "pgd", target=target, restarts=2, batch_size=7, **HOW)
    records = first.records
    assert records["target"].nunique() > 3
    assert records["target"].between(0, 9).all()
    assert records["target"].tolist() == again.records["target"].tolist()
    assert first.summary.iloc[-1]["target_images"] == (records["target"] != records["label"]).sum()


def test_adaptive_draws_keep_the_target_of_each_image(sde):
    """Images are attacked in groups by the draws that they need; targets come back in the images' order."""
    few = rb.load_dataset("digits", images=12)
    how = HOW | {"steps": 2, "target": "random", "score_draws": 4}
    fixed, adaptive = (rb.attack(sde, few, "pgd", eot_draws=draws, **how) for draws in (2, "auto"))
    assert adaptive.records["eot_draws"].nunique() > 1
    assert adaptive.records["target"].tolist() == fixed.records["target"].tolist()


def test_untargeted_rows_have_no_success(ode, data):
    """Neither a share nor a target stands in the row of an attack away from the true class."""
    result = rb.attack(ode, data.subset(10), "pgd", **HOW)
    assert result.summary["target_success"].isna().all()
    assert result.records["target"].isna().all()


def test_images_that_are_all_of_the_target_class_have_no_share(ode, data):
    """Nothing counts: the number of images is 0, and share and interval are missing."""
    threes = data.select(data.ids[data.labels == 3])
    row = rb.attack(ode, threes, "pgd", target=3, **HOW).summary.iloc[-1]
    assert row["target_images"] == 0
    assert math.isnan(row["target_success"])


def test_a_target_that_is_no_class_is_damage(ode, data):
    """A record whose target is half a class is refused, with the image."""
    records = rb.attack(ode, data.subset(3), "pgd", target=3, **HOW).records
    with pytest.raises(BenchError, match=f"image {records['image_id'].iloc[1]} has a target"):
        check_records(records.assign(target=[3.0, 2.5, 3.0]))


def test_tables_show_success_and_how_many_images_are_left_out(ode, data):
    """The columns are there with a targeted row alone, and a narrow terminal cuts no number."""
    targeted = rb.attack(ode, data, "pgd", target=3, **HOW).summary
    plain = targeted[targeted["target_images"].isna()]
    assert "left out" not in [column.heading for column in summary_columns(plain)]
    row = targeted.iloc[-1].to_dict()
    texts = {column.heading: column.text(row) for column in summary_columns(targeted)}
    assert texts["in target (95 %)"].startswith(f"{100 * row['target_success']:.1f} (")
    assert texts["left out"] == str(int((data.labels == 3).sum()))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(targeted, console))
    assert "…" not in console.export_text()
