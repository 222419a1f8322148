"""Results of a cell: what is wrong with it, and what follows from its records."""

import math

import pandas as pd
import pytest
from builders import make_data, make_model

from robustbench_sde.errors import InvalidEvaluationError
from robustbench_sde.evaluation.cell import CellResult, blank_row, check_control
from robustbench_sde.evaluation.numbers import numbers_of, suspicion
from robustbench_sde.evaluation.scoring import ScoreSettings
from robustbench_sde.perturbations.base import Clean
from robustbench_sde.storage.schema import RECORDS, table


def make_records(**columns):
    """Records of images that are all right, but for these columns."""
    count = len(next(iter(columns.values())))
    blank = {column.name: [""] * count if column.dtype == "str" else [0] * count for column in RECORDS}
    known = {"image_id": range(count), "correct": [True] * count, "share_correct": [1.0] * count}
    return table(pd.DataFrame(blank | known | {"score_draws": [1] * count} | columns), RECORDS)


def test_a_cell_that_failed_has_a_status_and_no_image():
    """Neither records nor images stand for a cell without numbers."""
    result = CellResult.failed({"accuracy": math.nan, "status": "ok"}, "failed: no memory")
    assert result.row["status"] == "failed: no memory"
    assert not result.ok
    assert len(result.images) == len(result.records) == 0


def test_the_control_names_the_first_image_that_differs():
    """Costs may differ; of other columns one value of one image is enough."""
    clean = make_records(confidence=[0.1, 0.2, 0.3], forward_passes=[1, 1, 1], image_id=[4, 5, 6])
    check_control(clean, clean.assign(forward_passes=[9, 9, 9]))
    with pytest.raises(InvalidEvaluationError, match=r"on 2 of 3 images \(first: image 5\)"):
        check_control(clean, clean.assign(confidence=[0.1, 0.9, 0.9]))


@pytest.mark.parametrize(
    ("shares", "eps", "expected"),
    [
        ((0.0, 0.5, 1.0, 0.0), 0.1, 0.5),
        ((math.nan, 0.5, 0.5, 0.0), 0.1, 0.5),  # not counted, and an image
        ((math.nan,) * 4, 0.1, math.nan),
        ((0.5, 0.5, 0.5, 0.5), 0.0, math.nan),
    ],
    ids=["half", "unknown", "without gradients", "control"],
)
def test_the_share_of_images_with_a_zero_gradient(shares, eps, expected):
    """Images are counted, however often it happened; without gradients, and for the control, unknown."""
    found = numbers_of(make_records(gradients_zero=shares), "linf", eps)
    assert found["gradients_zero"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("name", ["gradients_zero", "gradients_not_finite", "gradients_misleading"])
def test_more_than_one_image_in_twenty_makes_a_row_suspect(name):
    """Just one in twenty does not."""
    row = dict.fromkeys(("gradients_zero", "gradients_not_finite", "gradients_misleading"), math.nan)
    assert suspicion(row | {name: 0.05}) == ""
    assert suspicion(row | {name: 0.06}).startswith("suspect: gradients of 6% of the images are ")


def test_a_blank_row_says_what_is_asked():
    """Facts of the model and the scoring are there, and no number; without a model its facts are empty."""
    model, data, settings = make_model(sigma=0.7), make_data(5), ScoreSettings(draws=6, rule="vote", seed=3)
    row = blank_row(model, data, Clean(), settings)
    facts = (
        "checkpoint",
        "noise",
        "sigma",
        "solver",
        "solver_steps",
        "score_draws",
        "rule",
        "seed",
        "images",
    )
    assert [row[name] for name in facts] == [
        "tiny-multiplicative",
        "multiplicative",
        0.7,
        "euler",
        3,
        6,
        "vote",
        3,
        5,
    ]
    assert math.isnan(row["accuracy"])
    without = blank_row(None, data, Clean(), settings)
    assert [without[name] for name in ("checkpoint", "noise", "solver", "solver_steps")] == ["", "", "", 0]
    assert math.isnan(without["sigma"])
    assert blank_row(make_model("none"), data, Clean(), settings)["score_draws"] == 1
