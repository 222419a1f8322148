"""Means, relative errors and mCE, by hand and by simulation."""

import math

import numpy as np
import pandas as pd
import pytest

from robustbench_sde.evaluation.corruption_summary import (
    CorruptionLevel,
    CorruptionRecords,
    corruption_error,
    corruption_summary,
)
from robustbench_sde.evaluation.statistics import clustered, expected_calibration_error, paired


def cell(correct, confidence=0.75):
    """The columns of a cell's records that are looked at."""
    correct = np.array(correct, dtype=bool)
    return pd.DataFrame(
        {
            "correct": correct,
            "share_correct": correct.astype(float),
            "confidence": confidence,
            "brier": np.where(correct, 0.1, 1.0),
        }
    )


RIGHT = [1, 1, 1, 1]
FOG1, FOG2 = [1, 1, 1, 0], [1, 1, 0, 0]
SNOW1, SNOW2 = [1, 1, 0, 0], [1, 0, 0, 0]


def measured(clean, *cells):
    conditions = (
        CorruptionLevel("fog", 1),
        CorruptionLevel("fog", 2),
        CorruptionLevel("snow", 1),
        CorruptionLevel("snow", 2),
    )
    return CorruptionRecords(cell(clean), dict(zip(conditions, map(cell, cells), strict=True)))


@pytest.fixture
def summary():
    """A model and a reference that errs on half the images everywhere."""
    half = [1, 0, 1, 0]
    return corruption_summary(
        {"model": measured(RIGHT, FOG1, FOG2, SNOW1, SNOW2), "base": measured(RIGHT, half, half, half, half)},
        reference="base",
    ).set_index(["checkpoint", "corruption", "severity"])


def test_errors_are_plain_means(summary):
    """Errors by severity, by corruption and over all are plain means of 1/4, 2/4, 2/4 and 3/4."""
    errors = 1 - summary["accuracy"]
    assert errors["model", "fog", 1.0] == pytest.approx(1 / 4)
    by_name = summary.reset_index()
    whole = by_name[by_name["severity"].isna() & (by_name["checkpoint"] == "model")].set_index("corruption")
    assert (1 - whole["accuracy"])["fog"] == pytest.approx(3 / 8)
    assert (1 - whole["accuracy"])["snow"] == pytest.approx(5 / 8)
    assert errors["model", "mean", 2.0] == pytest.approx(5 / 8)
    assert (1 - whole["accuracy"])["mean"] == pytest.approx(1 / 2)
    assert whole["relative_error"]["mean"] == pytest.approx(1 / 2)
    assert whole["cells"]["mean"] == 4
    # the mean of 3/8 / (1/2) and 5/8 / (1/2)
    assert whole["ce"]["fog"] == pytest.approx(0.75)
    assert whole["ce"]["mean"] == pytest.approx(1.0)
    assert whole["ece"]["clean"] == pytest.approx(0.25)


def test_intervals_are_clustered_by_image(summary):
    """The interval of a mean is that of the images' mean correctness, not of 16 independent answers."""
    row = summary.reset_index().query("checkpoint == 'model' and corruption == 'mean'").iloc[-1]
    assert math.isnan(row["severity"])
    expected = clustered(np.mean([FOG1, FOG2, SNOW1, SNOW2], axis=0))
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(expected[1:])


def test_the_reference_is_its_own_unit(summary):
    """mCE of the reference is 1, without error."""
    row = summary.reset_index().query("checkpoint == 'base' and corruption == 'mean'").iloc[-1]
    assert (row["ce"], row["ce_low"], row["ce_high"]) == (1, 1, 1)


def test_no_mce_without_a_reference():
    """It is never relative to something unnamed."""
    table = corruption_summary({"model": measured(RIGHT, FOG1, FOG2, SNOW1, SNOW2)})
    assert table["ce"].isna().all()


def test_plain_perturbations_are_shown_and_not_averaged():
    """`gaussian:0.1` has a row; where nothing has severities, the mean is over all."""
    conditions = {CorruptionLevel("fog", 1): cell(FOG1), CorruptionLevel("gaussian:0.1", None): cell(SNOW2)}
    table = corruption_summary({"model": CorruptionRecords(cell(RIGHT), conditions)}).set_index("corruption")
    assert table.loc["gaussian:0.1", "accuracy"] == 0.25
    assert (table.loc["mean", "accuracy"] == 0.75).all()
    plain = {CorruptionLevel("zigzag", None): cell(FOG1), CorruptionLevel("stripe", None): cell(SNOW2)}
    table = corruption_summary({"model": CorruptionRecords(cell(RIGHT), plain)}).set_index("corruption")
    assert table.loc["mean", "accuracy"] == 0.5


def test_an_invalid_cell_takes_its_means_with_it():
    """A mean over the other cells would be another quantity."""
    conditions = {CorruptionLevel("fog", 1): cell(FOG1), CorruptionLevel("fog", 2): None}
    table = corruption_summary({"model": CorruptionRecords(cell(RIGHT), conditions, "invalid: x")})
    row = table.set_index(["corruption", "severity"])
    assert row.loc[("fog", 1.0), "accuracy"] == 0.75
    assert math.isnan(row.loc[("fog", 2.0), "accuracy"])
    assert table.iloc[-1]["status"] == "invalid: x"
    assert math.isnan(table.iloc[-1]["accuracy"])


def test_mce_is_undefined_where_the_reference_never_errs():
    """Division by zero is not a number, nor infinity."""
    assert math.isnan(corruption_error([np.ones(4)], [np.zeros(4)]).estimate)


def covered(trials, trial):
    generator = np.random.default_rng(20_26)
    return float(np.mean([trial(generator) for _ in range(trials)]))


def test_the_interval_of_mce_covers():
    """Images of differing difficulty, 15 corruptions, 300 images: 93-97 % of 500 trials."""

    def trial(generator):
        difficulty = generator.beta(1, 3, (300, 1))
        own = generator.binomial(5, np.clip(0.8 * difficulty, 0, 1), (300, 15)).T.astype(float)
        base = generator.binomial(5, difficulty, (300, 15)).T.astype(float)
        interval = corruption_error(list(own), list(base))
        return interval.low <= 0.8 <= interval.high

    assert 0.93 <= covered(500, trial) <= 0.97


@pytest.mark.parametrize(("right", "wrong"), [(0.1, 0.05), (0.02, 0.0), (0.3, 0.3)])
def test_the_interval_of_paired_differences_covers(right, wrong):
    """200 images, differences +1, -1 or 0: covered in at least 93 % of 1,000 trials."""

    def trial(generator):
        differences = generator.choice([1.0, -1.0, 0.0], 200, p=[right, wrong, 1 - right - wrong])
        interval = paired(differences)
        return interval.low <= right - wrong <= interval.high

    assert covered(1000, trial) >= 0.93


def test_paired_differences_that_vanish_keep_an_interval():
    """No image differing among 50 does not prove that none does."""
    interval = paired(np.zeros(50))
    assert interval.estimate == 0
    assert interval.low < -0.03
    assert interval.high > 0.03


def test_expected_calibration_error_by_hand():
    """Two of the 15 bins: 3 answers at .95 with 2 right, 1 at .5 and wrong; edges belong to the lower bin."""
    confidence, correct = np.array([0.95, 0.95, 0.95, 0.5]), np.array([True, True, False, False])
    expected = 3 / 4 * abs(2 / 3 - 0.95) + 1 / 4 * abs(0 - 0.5)
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)
    edge = np.array([0.2, 0.2 + 1e-9])  # one in the third bin, one in the fourth
    assert expected_calibration_error(edge, np.array([True, False])) == pytest.approx(0.5 * 0.8 + 0.5 * 0.2)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0
