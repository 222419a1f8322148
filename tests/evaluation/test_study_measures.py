"""Measures of studies from records written by hand."""

import math

import numpy as np
import pytest

from robustbench_sde.evaluation.study_measures import with_change, with_overstated
from robustbench_sde.storage.run_folder import RunFolder
from robustbench_sde.storage.schema import RECORDS, SUMMARY, table


def summary_of(folder, *cells):
    """A summary of cells (facts, columns of the records), whose records are in the folder."""
    blank = {column.name: "" if column.dtype == "str" else 0 for column in RECORDS}
    empty = {column.name: "" if column.dtype == "str" else 0 for column in SUMMARY}
    rows = []
    for number, (facts, columns) in enumerate(cells):
        row = empty | {"checkpoint": "net", "status": "ok", "cell": f"{number:016d}"} | facts
        images = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        row["images"] = len(images)
        records = [blank | {"image_id": place, "label": 1} | image for place, image in enumerate(images)]
        folder.write_cell(row["cell"], f"net {number}", row, table(records, RECORDS))
        rows.append(row)
    return table(rows, SUMMARY)


def outcomes(share, correct):
    """Columns of images whose label is 1, in two classes."""
    signs = tuple(0.1 if right else -0.1 for right in correct)
    return {
        "share_correct": share,
        "correct": correct,
        "prediction": tuple(map(int, correct)),
        "margin": signs,
    }


def test_the_accuracy_that_is_overstated_is_that_above_the_honest_attack(tmp_path):
    """Clean images are budget 0 of both attacks; budgets without the honest attack have no number."""
    folder = RunFolder(tmp_path)
    paper, honest = {"perturbation": "liu2020", "norm": "l2"}, {"perturbation": "apgd-ce", "norm": "l2"}
    found = with_overstated(
        summary_of(
            folder,
            ({"perturbation": "clean", "eps": math.nan}, outcomes((1.0, 0.75), (True, True))),
            (paper | {"eps": 0.5}, outcomes((1.0, 0.5), (True, True))),
            (paper | {"eps": 1.0}, outcomes((1.0, 1.0), (True, True))),
            (honest | {"eps": 0.5}, outcomes((1.0, 0.25), (True, False))),
        ),
        folder,
    )
    keys = found[["perturbation", "norm", "eps"]].to_numpy().tolist()
    assert keys == [
        ["liu2020", "l2", 0.0],
        ["apgd-ce", "l2", 0.0],
        ["liu2020", "l2", 0.5],
        ["liu2020", "l2", 1.0],
        ["apgd-ce", "l2", 0.5],
    ]
    expected = [-0.125, math.nan, 0.25, math.nan, math.nan]
    assert found["overstated"].to_numpy() == pytest.approx(np.array(expected), nan_ok=True)


@pytest.mark.parametrize(
    ("shares", "limits"),
    [((1.0, 0.0), (0.0, 1.0)), ((0.0, 0.5), (-1.0, 1.0)), ((0.5, 0.7), (0.404, 0.796))],
    ids=["no image falls", "few images", "inside"],
)
def test_the_interval_of_a_mean_of_shares_stays_within_what_is_possible(tmp_path, shares, limits):
    """Below 0 only where an image is, and never beyond 1; inside it is the normal one."""
    folder = RunFolder(tmp_path)
    correct = (shares[0] == 0.0, False)
    found = with_overstated(
        summary_of(
            folder,
            ({"perturbation": "liu2020", "eps": 0.5}, outcomes(shares, (True, True))),
            ({"perturbation": "apgd-ce", "eps": 0.5}, outcomes((0.0, 0.0), correct)),
        ),
        folder,
    )
    row = found.iloc[0]
    assert row["overstated"] == pytest.approx(np.mean(np.array(shares) - correct))
    assert (row["overstated_low"], row["overstated_high"]) == pytest.approx(limits, abs=1e-3)


def test_logits_of_certain_images_are_those_next_to_certainty(tmp_path):
    """A probability of 1 or 0 is one that float32 tells apart from it: 2^-24 away, 16.6 as a logit."""
    folder = RunFolder(tmp_path)
    cells = (
        ({"perturbation": "clean", "solver_steps": steps}, {"label_probability": values})
        for steps, values in ((1, (1.0, 0.0, 0.5)), (9, (0.5, 0.5, 0.75)))
    )
    found = with_change(summary_of(folder, *cells), folder)
    certain = math.log((1 - 2**-24) / 2**-24)
    assert found["logit_change"].iloc[0] == pytest.approx((2 * certain + math.log(3)) / 3, rel=1e-6)
    assert found["change"].iloc[0] == pytest.approx(1.25 / 3)
