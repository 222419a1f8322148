"""The curve of a minimal-norm attack."""

import numpy as np
import pandas as pd
import pytest

from robustbench_sde.evaluation.distances import MOST_POINTS, accuracy_by_distance, fooled_distances
from robustbench_sde.evaluation.statistics import wilson


def records(distances, stands):
    return pd.DataFrame({"l2": np.asarray(distances, float), "correct": np.asarray(stands, bool)})


def test_accuracy_falls_at_the_distance_of_each_fooled_image():
    """Five images: one wrong from the start, one that stands, two at the same distance."""
    five = records([0.0, 0.5, 0.9, 0.5, 0.3], [False, False, True, False, False])
    assert fooled_distances(five, "l2").tolist() == [0.0, 0.5, np.inf, 0.5, 0.3]
    curve = accuracy_by_distance(five, "l2")
    assert curve["distance"].tolist() == [0.0, 0.3, 0.5]
    assert curve["accuracy"].tolist() == pytest.approx([0.8, 0.6, 0.2])
    assert tuple(curve.iloc[1, 1:]) == pytest.approx(wilson(0.6, 5))


def test_it_starts_at_clean_accuracy_and_the_median_is_where_it_passes_a_half():
    """Consistent with the quartiles of the summary, and never longer than `MOST_POINTS`."""
    rng = np.random.default_rng(0)
    many = records(rng.gamma(2, 0.3, 1000), rng.random(1000) < 0.1)
    curve = accuracy_by_distance(many, "l2")
    assert len(curve) == MOST_POINTS
    assert tuple(curve.iloc[0, :2]) == (0.0, 1.0)
    assert curve["accuracy"].is_monotonic_decreasing
    assert curve["accuracy"].iloc[-1] == pytest.approx(many["correct"].mean())
    median = np.quantile(fooled_distances(many, "l2"), 0.5, method="higher")
    assert curve["accuracy"][curve["distance"] <= median].min() == pytest.approx(0.5, abs=0.01)


def test_where_nothing_is_fooled_the_curve_is_one_point():
    """All images stand: distance 0, accuracy 1."""
    curve = accuracy_by_distance(records([0.1, 0.2], [True, True]), "l2")
    assert curve[["distance", "accuracy"]].to_numpy().tolist() == [[0.0, 1.0]]
